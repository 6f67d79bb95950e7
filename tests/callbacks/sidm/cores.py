"""Maps whose core grows with the cross-section, and a model of them trained for a moment."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules import SIDMDataModule
from datamodules.sidm.source import CHUNK_BYTES, SCHEMA, SIDMSource
from datamodules.store import RowStore
from lightning_modules import CompactClustering, Ensemble

KNOWN = {"cdm": 0.0, "sidm_0.1": 0.1, "sidm_0.3": 0.3, "sidm_1": 1.0}
HIDDEN = {f"hidden_{k}": x for k, x in enumerate((0.05, 0.08, 0.15, 0.25, 0.5, 0.8))}
CALIBRATION = {f"calibration_{k}": x for k, x in enumerate((0.06, 0.12, 0.35, 0.6))}
SIZE = 33


@dataclass
class Cores(SIDMSource):
    """Known simulations are twins of 80 halos; others have 30 of their own; noise has 20.

    A map is exp(-r / s) with s = 4 + 8 log10(1 + 10 σ/m) pixels, times a scatter of halos.
    """

    alone: int = 0
    """Maps of no simulation, all of one halo."""
    known: dict[str, float] = field(default_factory=lambda: dict(KNOWN))

    def parameters(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, float, int]]:
        """Return simulation, cross-section and halo of each map."""
        rows = [(name, x, halo) for name, x in self.known.items() for halo in range(80)]
        for number, (name, x) in enumerate((HIDDEN | CALIBRATION).items(), start=1):
            rows += [(name, x, 1000 * number + halo) for halo in range(30)]
        rows += [("noise", np.nan, 10**5 + halo) for halo in range(20)]
        return rows + [("", np.nan, 10**6)] * self.alone

    def prepare(self, path: Path, seed: int) -> None:
        simulation, cross_section, halo = map(np.array, zip(*self.rows(), strict=True))
        rng = np.random.default_rng(seed)
        scatter = rng.normal(1.0, 0.1, 10**6 + 1)[halo][:, None, None]
        axis = np.arange(SIZE) - SIZE // 2
        r = np.hypot(axis[:, None], axis)
        core = 4 + 8 * np.log10(1 + 10 * np.nan_to_num(cross_section))[:, None, None]
        noise = rng.normal(0, 0.05, (len(halo), SIZE, SIZE))
        maps = 1e9 * np.exp(-r / (core * scatter) + noise)
        maps = np.where(simulation[:, None, None] == "noise", 1e9 * rng.random(maps.shape), maps)
        count = len(halo)
        columns = {
            "name": np.arange(count),
            "simulation": simulation,
            "cross_section": cross_section.astype(np.float32),
            "halo": halo,
            "projection": np.zeros(count, np.int64),
            "redshift": np.zeros(count, np.float32),
            "log_mass": (14 + scatter[:, 0, 0]).astype(np.float32),
            "map": maps[:, None].astype(np.float32),
            "good": np.ones(maps.shape, bool),
        }
        attributes = {"channels": ["total"], "pixel_scale": 20.0, "seed": seed}
        with RowStore.writer(path, SCHEMA, 1, attributes, chunk_bytes=CHUNK_BYTES) as writer:
            writer.append(columns)


def make_data(folder: Path, source: Cores | None = None, **settings: Any) -> SIDMDataModule:
    """Return the data with the roles that the names say."""
    roles = {
        "known": list(KNOWN),
        "hidden": ["hidden_*"],
        "calibration": ["calibration_*"],
        "foreign": ["noise"],
    }
    plain = {"train_on_hidden": False, "val_fraction": 0.2, "cache_dir": str(folder)}
    return SIDMDataModule(source or Cores(), **{**roles, **plain, **settings})


def make_model(**settings: Any) -> CompactClustering:
    """Return a small model."""
    sizes = {"image_size": SIZE, "widths": [4, 8], "depths": [1, 1], "hidden_dim": 16}
    return CompactClustering(**{**sizes, "latent_dim": 3, "warmup_steps": 0, **settings})


def make_ensemble(*models: CompactClustering) -> Ensemble:
    """Return the ensemble of models in memory."""
    path = "lightning_modules.CompactClustering"
    found = Ensemble([{"class_path": path, "init_args": dict(one.hparams)} for one in models])
    for member, one in zip(found.models, models, strict=True):
        member.load_state_dict(one.state_dict())
    return found
