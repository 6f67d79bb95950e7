"""The canonical columns of a star catalogue: Gaia names, units, and the table that carries them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lightning_modules.physics.arrays import Array
from lightning_modules.physics.covariance import AXES, CORRELATIONS

REQUIRED_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "pmra": "mas/yr",
    "pmdec": "mas/yr",
    "parallax": "mas",
    "pmra_error": "mas/yr",
    "pmdec_error": "mas/yr",
    "parallax_error": "mas",
}
"""Required measurements (besides ``source_id``) and the unit each is stored in."""

OPTIONAL_UNITS = {
    "ra_error": "mas",
    "dec_error": "mas",
    **dict.fromkeys(CORRELATIONS, ""),
    "phot_g_mean_mag": "mag",
    "bp_rp": "mag",
    "ruwe": "",
    "astrometric_excess_noise": "mas",
    "astrometric_excess_noise_sig": "",
    "astrometric_params_solved": "",
    "visibility_periods_used": "",
    "ipd_frac_multi_peak": "",
    "ipd_gof_harmonic_amplitude": "",
    "phot_bp_rp_excess_factor": "",
    "duplicated_source": "",
    "nu_eff_used_in_astrometry": "1/um",
    "pseudocolour": "1/um",
    "ecl_lat": "deg",
    "source_density": "1/arcmin2",
}
"""Optional measurements; ``source_density`` is the local star count on the sky."""

MEASURED_TOGETHER = (("parallax",), ("pmra", "pmdec"))
"""What a star may lack where `Missing` is `keep`; Gaia's two-parameter solutions lack both."""

Missing = Literal["error", "drop", "keep"]
"""What to do with rows that lack a required value."""

UNITS = {**REQUIRED_UNITS, **OPTIONAL_UNITS}
REQUIRED = ("source_id", *REQUIRED_UNITS)
OPTIONAL = tuple(OPTIONAL_UNITS)
ERRORS = tuple(f"{axis}_error" for axis in AXES)

DEFAULTS = {"ra_error": 0.8, "dec_error": 0.7, **dict.fromkeys(CORRELATIONS, 0.0)}
"""Stand-ins for optional values, in units of the star's parallax error (mean ratios of DR3).

Every other optional column that a file lacks is absent (NaN).
"""


@dataclass
class StarTable:
    """Stars in canonical columns, and what happened to them on the way.

    Attributes:
        columns: name to array, first axis the star: ``source_id`` and ``label`` int64, ``ra`` and
            ``dec`` float64 in degrees, everything else float32 in the units of ``UNITS``.
        attributes: plain JSON values kept in the store and printed in reports: ``origin`` (files or
            query), ``defaults`` (one sentence for each default taken), ``dropped`` (sentence to
            number of rows).
    """

    columns: dict[str, Array]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of stars."""
        return len(self.columns["source_id"])


def storage(name: str, values: Array) -> Array:
    """Cast a column to the type in which the store keeps it."""
    if name in ("source_id", "label"):
        return np.ascontiguousarray(values, dtype=np.int64)
    dtype = np.float64 if name in ("ra", "dec") else np.float32
    return np.ascontiguousarray(values, dtype=dtype)
