"""What every source of maps of galaxy clusters writes: one row a map."""

from datamodules.source import Source

SCHEMA = "astrolit.sidm"
CHUNK_BYTES = 1 << 16
"""One map a chunk: training on a large file reads single maps in random order."""


class SIDMSource(Source):
    """A source of maps of galaxy clusters.

    Its store has a row a map:

    * `name`: id of the map, int64 or str. `halo` int64: its halo; maps of one halo (twins in other
      simulations, projections, redshifts) share it, and the split is by it.
    * `simulation` str: the run it comes from, "" none; `cross_section` float32: of that run, in
      cm^2/g, NaN unknown.
    * `redshift` float32, `projection` int64, `log_mass` float32: log10 of M200c in Msun; NaN where
      unknown.
    * `map` (N, C, H, W) float32, NaN where `good` (N, H, W) bool is False: surface density of
      `total` and `stars` in Msun/kpc^2, `xray` in erg/s/kpc^2.
    * Further columns of one number a row. Of the simulator: `concentration`, `core_radius` (r1 in
      kpc), `bcg_offset` (kpc), `cool_core`, `age` (Gyr).

    It has the attributes `channels`, the names of the C channels, and `pixel_scale` in kpc.
    """
