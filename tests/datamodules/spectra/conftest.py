"""A small survey of known content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.spectra.grid import GRIDS
from datamodules.spectra.schema import CHUNK_BYTES, SCHEMA, VERSION
from datamodules.spectra.source import SpectraSource
from datamodules.store import RowStore

NUM = 120
P = 7214


class Survey(SpectraSource):
    """120 spectra of 100 stars with flux = row / 1000 + a ramp, and four broken rows at the end.

    Row 116 is all zero, 117 has errors of 1e10, 118 NaN fluxes, 119 no labels.
    """

    def parameters(self) -> dict[str, Any]:
        return {}

    def columns(self) -> dict[str, NDArray[Any]]:
        rows = np.arange(NUM)
        flux = 1 + rows[:, None] / 1000 + np.linspace(-0.1, 0.1, P)
        error = np.where(rows[:, None] % 2, 0.001, 0.02) * np.ones(P)
        mask = np.zeros((NUM, P), np.int32)
        mask[:, 10] = 1 << 0
        mask[:, 11] = 1 << 13
        mask[:, 12] = 1 << 12 | 1 << 1
        flux[:, 10] = np.nan
        flux[:, 12] = 1e9
        flux[116], error[117], flux[118] = 0, 1e10, np.nan
        labels = {"teff": 4400 + rows, "logg": 2 + rows / 1000, "fe_h": -rows / 1000.0}
        columns: dict[str, NDArray[Any]] = {k: v.astype(np.float32) for k, v in labels.items()}
        for name in labels:
            columns[name][119] = np.nan
            columns[f"{name}_error"] = np.full(NUM, 0.5, np.float32)
        columns["teff_error"][:5] = (np.nan, -1, 0, np.inf, 80)
        return {
            **columns,
            "name": np.array([f"2M{row % 100:04d}" for row in rows]),
            "flux": flux.astype(np.float32),
            "flux_error": error.astype(np.float32),
            "pixel_mask": mask,
            "snr": np.where(rows < 10, 150, 300).astype(np.float32),
            "starflag": np.where(rows == 20, 1 << 4, 1 << 9),
            "aspcapflag": np.where(rows == 21, 1 << 23, 1 << 7),
        }

    def prepare(self, path: Path, seed: int) -> None:
        shared = {"wavelength": GRIDS[P].wavelength}
        attributes = {"grid": P, "counts": {}, "defaults": ["nothing is known of starflag"]}
        with RowStore.writer(path, SCHEMA, VERSION, attributes, shared, CHUNK_BYTES) as writer:
            writer.append(self.columns())


@pytest.fixture(scope="session")
def survey() -> type[Survey]:
    return Survey
