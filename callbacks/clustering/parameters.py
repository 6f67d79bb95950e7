"""What a module says its clusters are: centre, shape, motion, dispersion, with errors."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor

from callbacks.clustering.structure import Array, Cluster
from callbacks.report.base import TestRun
from callbacks.report.table import Provenance
from lightning_modules.physics.frames import inverse_tangent_plane

UNITS = {
    "x": "deg",
    "y": "deg",
    "ra": "deg",
    "dec": "deg",
    "radius": "deg",
    "position_angle": "deg",
    "parallax": "mas",
    "pmra": "mas/yr",
    "pmdec": "mas/yr",
    "dispersion": "mas/yr",
}
"""Of a cluster's parameters, and of their errors; what is not named has none."""

DESCRIPTIONS = {
    "cluster": "Number of the cluster: its column in the membership table",
    "weight": "Share of the stars",
    "x": "Centre, east of the field's",
    "y": "Centre, north of the field's",
    "ra": "Centre, right ascension (ICRS)",
    "dec": "Centre, declination (ICRS)",
    "radius": "Scale radius of the profile (Plummer's a)",
    "ellipticity": "1 - b/a",
    "position_angle": "Of the long axis, from north to east",
    "nu": "Slope of the profile: 2 is Plummer's, gamma - 2 that of Elson, Fall & Freeman",
    "parallax": "Mean parallax, corrected for the zero point where that is known",
    "pmra": "Mean proper motion along the east axis at the field's centre",
    "pmdec": "Mean proper motion along the north axis at the field's centre",
    "dispersion": "Dispersion of the proper motion at the centre, on each axis",
    "pmra_pmdec_corr": "Correlation of the errors of pmra and pmdec",
}


@runtime_checkable
class ParametricModule(Protocol):
    """A module whose clusters have physical parameters."""

    def parameter_rows(self) -> list[dict[str, float]]:
        """Return one dict a cluster: `cluster` (its column), `<name>` and `<name>_error`."""

    def intrinsic_covariance(self, cluster: int, position: Tensor) -> Tensor:
        """Return the scatter of a cluster's true parallaxes and motions at places, (n, 3, 3)."""


def parameters_of(module: object) -> list[dict[str, float]]:
    """Return the parameters of a module's clusters, nothing if it has none.

    Errors follow from derivatives, which Lightning's test and predict forbid without this.
    """
    with torch.inference_mode(False):
        return module.parameter_rows() if isinstance(module, ParametricModule) else []


def error_scale(module: object) -> float:
    """Return the factor on all formal errors that a model has learnt (`error_scale`), else 1."""
    return float(getattr(module, "error_scale", 1.0))


def fitted_cluster(module: Any, row: dict[str, float], probability: Array) -> Cluster:
    """Return a cluster that a module has fitted.

    Args:
        module: A `ParametricModule`.
        row: Of its `parameter_rows`.
        probability: Membership of each star in it, shape (n,).
    """

    def scatter(position: Array) -> Array:
        places = torch.from_numpy(position.astype(np.float64)).to(module.device)
        found: Array = module.intrinsic_covariance(int(row["cluster"]), places).cpu().numpy()
        return found

    return Cluster.of_parameters(row, probability, scatter)


def add_parameters(run: TestRun) -> list[dict[str, float]]:
    """Add the parameters of the model's clusters to the report, if it has any; return them.

    They are at `model/<name>/cluster=<number>`, with the model's own error as deviation, and in the
    table `parameters`.

    Args:
        run: With the module and the report.
    """
    if not isinstance(run.module, ParametricModule):
        return []
    rows = parameters_of(run.module)
    for row in rows:
        scope = run.scope("model", cluster=int(row["cluster"]))
        for name, value in row.items():
            if name != "cluster" and not name.endswith("_error"):
                scope.add(name, value, row.get(f"{name}_error"))
    if rows:
        run.report.attach("parameters", parameter_table(rows, frame_centre(run.datamodule)))
    else:
        run.report.note("the model found no cluster: there is no table of parameters")
    return rows


def frame_centre(data: object) -> np.ndarray | None:
    """Return the field's centre (ra, dec) in degrees, None if the datamodule does not know it."""
    centre = data.provenance().get("centre") if isinstance(data, Provenance) else None
    return None if centre is None else np.array(centre)


def parameter_table(rows: Sequence[dict[str, float]], centre: np.ndarray | None = None) -> Table:
    """Return the parameters as a table with units, one row a cluster.

    Args:
        rows: Of `ParametricModule.parameter_rows`, at least one.
        centre: Of the field, (ra, dec) in degrees; `ra` and `dec` of the clusters need it. The
            error of `ra` is on the sky, times cos(dec), as in Gaia's tables.
    """
    table = Table(rows=list(rows))
    table["cluster"] = table["cluster"].astype(int)
    if centre is not None and {"x", "y"} <= rows[0].keys():
        place = np.array(table["x"]), np.array(table["y"])
        table["ra"], table["dec"] = inverse_tangent_plane(*place, centre)
        for name, other in (("ra", "x"), ("dec", "y")):
            if f"{other}_error" in table.colnames:
                table[f"{name}_error"] = table[f"{other}_error"]
    for name in table.colnames:
        quantity = name.removesuffix("_error")
        table[name].unit = UNITS.get(quantity)
        what = DESCRIPTIONS.get(quantity)
        table[name].description = f"Error of {quantity}" if name != quantity else what
    return table
