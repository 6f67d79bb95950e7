"""Columns of a store of spectra (names, order, meaning of missing values); no Lightning here."""

SCHEMA = "astrolit.spectra"
VERSION = 1
CHUNK_BYTES = 1 << 15
"""One spectrum of one quantity a chunk: training on a large file reads single rows."""

LABELS = ("teff", "logg", "fe_h")
"""What the survey measures of every star: K, log10(cm/s^2), dex."""

ELEMENTS = (
    "c", "n", "o", "na", "mg", "al", "si", "s", "k", "ca", "ti", "v", "cr", "mn", "ni", "ce",
)  # fmt: skip
"""Elements with abundances `<x>_fe` in dex, where a source knows them."""

_UNITS = {
    "teff": "K",
    "logg": "dex(cm / s2)",
    **dict.fromkeys(("fe_h", "alpha_m", *(f"{element}_fe" for element in ELEMENTS)), "dex"),
    **dict.fromkeys(("rv", "vmacro", "sky_velocity", "dib_velocity"), "km / s"),
}
UNITS = {
    column: unit
    for name, unit in _UNITS.items()
    for column in (name, f"{name}_error", f"true_{name}")
}
"""Units of columns with one value a row; ratios and counts have none."""

SPECTRAL = ("flux", "flux_error", "pixel_mask", "true_flux")
"""Columns of shape (N, P); all others have one value a row."""

MISSING = -9999.0
"""How the survey's tables say that a value is missing (values below `MISSING / 2`)."""
