"""What every source of light curves writes: rows of events, epochs by field."""

from datamodules.source import Source

SCHEMA = "astrolit.microlensing"
CHUNK_BYTES = 1 << 16
"""Small chunks: training on a large file reads single events in random order."""


class MicrolensingSource(Source):
    """A source of light curves.

    Its store has a row an event: `name` (id), `label` (0 one lens, 1 two, 2 constant star,
    3 variable star, -1 unknown), `flux` and
    `flux_error` (N, T) float32 over the reference flux, NaN where `good` (N, T) is False,
    `reference_flux` and `reference_flux_error`, `delta_chi2` (NaN unknown), further columns of
    parameters, and `field` (N,), the row of the shared array `time` (F, T) float64 in days, whose
    padding is NaN.
    """
