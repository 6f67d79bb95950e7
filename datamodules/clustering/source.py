"""What every source of star catalogues is: something that gives a `StarTable` and stores it."""

from abc import abstractmethod
from pathlib import Path

import numpy as np

from datamodules.clustering.gaia_columns import OPTIONAL_UNITS, StarTable
from datamodules.source import Source
from datamodules.store import RowStore

SCHEMA = "astrolit.clustering"


class ClusteringSource(Source):
    """A source of stars with positions, proper motions, parallaxes and their covariance."""

    @abstractmethod
    def table(self, seed: int) -> StarTable:
        """Return the stars in canonical columns; anything random is a function of `seed` alone."""

    def prepare(self, path: Path, seed: int) -> None:
        """Write the stars to a row store; optional columns without any value are left out.

        Args:
            path: Store to write, atomically: nothing is written if the data are refused.
            seed: Seed of whatever is random.
        """
        table = self.table(seed)
        optional = {*OPTIONAL_UNITS, "membership"} & set(table.columns)
        empty = {name for name in optional if np.isnan(table.columns[name]).all()}
        columns = {name: values for name, values in table.columns.items() if name not in empty}
        RowStore.write(path, columns, SCHEMA, attributes=table.attributes)
