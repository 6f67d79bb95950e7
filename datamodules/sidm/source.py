"""What every source of cluster maps writes."""

from datamodules.source import Source

SCHEMA = "astrolit.sidm"
CHUNK_BYTES = 1 << 16
"""Small chunks: training on a large file reads single maps in random order."""

CHANNELS = ("total", "xray", "stars")


class SIDMSource(Source):
    """A source of maps of galaxy clusters.

    Its store has a row a map:

    | column | shape, type | meaning |
    |---|---|---|
    | `name` | (N,) int64 or string | id of the map |
    | `halo` | (N,) int64 | cluster; its twins, projections and redshifts share it |
    | `simulation` | (N,) string | simulation of the map; "" none |
    | `cross_section` | (N,) float32 | sigma/m in cm^2/g, NaN unknown |
    | `redshift` | (N,) float32 | NaN unknown |
    | `projection` | (N,) int64 | number of the line of sight |
    | `log_mass` | (N,) float32 | log10 of M200c in Msun, NaN unknown |
    | `map` | (N, C, H, W) float32 | see below; NaN where not `good` |
    | `good` | (N, H, W) bool | pixels that were observed |

    and further columns of one number a map. Maps of `total` mass and of `stars` are in Msun/kpc^2,
    of `xray` in 1e40 erg/s/kpc^2 (in erg/s/kpc^2 they would be beyond float32). Its attributes
    name the `channels`, a list of `total`, `xray` and `stars`, and the `pixel_scale` in kpc.
    """
