"""A small source of maps for tests: twins of one halo set, and simulations with their own."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sidm.source import CHUNK_BYTES, SCHEMA, SIDMSource
from datamodules.store import RowStore

TWINS = {"cdm": 0.0, "sidm_0.1": 0.1, "sidm_1": 1.0}
OTHERS = {"hidden_000": 0.07, "hidden_001": 0.4, "calibration_000": 0.2, "noise": np.nan}


@dataclass
class TinyMaps(SIDMSource):
    """Twins share 30 halos of two projections; each other simulation has 10; then 3 maps of none.

    The map of row i is noise about 1 + i; some pixels are bad.
    """

    twins: dict[str, float] = field(default_factory=lambda: dict(TWINS))
    others: dict[str, float] = field(default_factory=lambda: dict(OTHERS))
    unnamed: int = 3
    size: int = 12
    channels: tuple[str, ...] = ("total", "xray")

    def parameters(self) -> dict[str, Any]:
        return asdict(self)

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of the store."""
        rows = [
            (s, x, halo, p) for s, x in self.twins.items() for halo in range(30) for p in (0, 1)
        ]
        for number, (name, value) in enumerate(self.others.items(), start=1):
            rows += [(name, value, 100 * number + halo, 0) for halo in range(10)]
        rows += [("", np.nan, 10**6 + k, 0) for k in range(self.unnamed)]
        simulation, cross_section, halo, projection = zip(*rows, strict=True)
        count = len(rows)
        rng = np.random.default_rng(0)
        maps = rng.uniform(0.1, 1.0, (count, len(self.channels), self.size, self.size))
        maps *= 1 + np.arange(count)[:, None, None, None]
        good = rng.random((count, self.size, self.size)) > 0.1
        maps[np.broadcast_to(~good[:, None], maps.shape)] = np.nan
        return {
            "name": np.arange(count),
            "simulation": np.array(simulation),
            "cross_section": np.array(cross_section, np.float32),
            "halo": np.array(halo),
            "projection": np.array(projection),
            "redshift": np.zeros(count, np.float32),
            "log_mass": np.full(count, 14.5, np.float32),
            "core_radius": np.full(count, 50.0, np.float32),
            "map": maps.astype(np.float32),
            "good": good,
        }

    def prepare(self, path: Path, seed: int) -> None:
        attributes = {"channels": self.channels, "pixel_scale": 20.0, "seed": seed}
        with RowStore.writer(path, SCHEMA, 1, attributes, chunk_bytes=CHUNK_BYTES) as writer:
            writer.append(self.columns())
