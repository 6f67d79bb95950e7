"""Quality cuts declared in YAML: validated, applied at once, counted one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_modules.physics.arrays import Array

Cuts = Mapping[str, Mapping[str, float]]
TRUTH = ("label", "membership")


def apply_cuts(
    columns: Mapping[str, Array], cuts: Cuts, origin: str
) -> tuple[Array, list[dict[str, Any]]]:
    """Find the stars that pass every cut.

    Bounds are inclusive. A star without a value in a column that is cut on does not pass.

    Args:
        columns: Name to values, shape (n,).
        cuts: Name to bounds, for example `{ruwe: {max: 1.4}, phot_g_mean_mag: {max: 20.5}}`.
        origin: Where the stars come from, named in messages.

    Returns:
        Mask of the stars kept, shape (n,), and for each cut a plain dict: `column`, `min`, `max`,
        `removed` (stars that fail this cut) and `missing` (those of them without a value).

    Raises:
        ValueError: A cut is malformed, names a column that is not there, or nothing is left.
    """
    check_cuts(cuts)
    keep = np.ones(len(next(iter(columns.values()))), dtype=bool)
    report: list[dict[str, Any]] = []
    for name, bounds in cuts.items():
        if name not in columns:
            raise ValueError(
                f"{origin}: no column '{name}' for data.cuts; it has {sorted(columns)}; remove the "
                "cut, or map the column by data.source.column_map or extra_columns"
            )
        values = columns[name]
        passed = (values >= bounds.get("min", -np.inf)) & (values <= bounds.get("max", np.inf))
        counts = {"removed": int((~passed).sum()), "missing": int(np.isnan(values).sum())}
        report.append({"column": name, **bounds, **counts})
        keep &= passed
    if not keep.any():
        failed = {entry["column"]: entry["removed"] for entry in report}
        raise ValueError(
            f"{origin}: data.cuts leave none of {len(keep)} stars (removed by each: {failed}); "
            "loosen them"
        )
    return keep, report


def check_cuts(cuts: Cuts) -> None:
    """Refuse cuts on the truth, and cuts without a mapping of `min` and `max`."""
    for name, bounds in cuts.items():
        if name in TRUTH or name.startswith("true_"):
            raise ValueError(
                f"data.cuts.{name}: the answer cannot select the stars to train on; remove the cut"
            )
        if not isinstance(bounds, Mapping) or not bounds or set(bounds) - {"min", "max"}:
            raise ValueError(
                f"data.cuts.{name} is {bounds!r}; write {name}: {{min: <number>}}, "
                f"{{max: <number>}} or both"
            )
        if bounds.get("min", -np.inf) > bounds.get("max", np.inf):
            raise ValueError(f"data.cuts.{name}: min {bounds['min']} is above max {bounds['max']}")
