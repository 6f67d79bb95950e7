"""Maps of galaxy clusters as a LightningDataModule: simulations with roles, split by halo."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import BaseDataModule
from datamodules.lazy_arrays import StoredColumn
from datamodules.sidm.roles import assign_roles, check_cross_sections
from datamodules.sidm.source import CHANNELS, SCHEMA, SIDMSource
from datamodules.sidm.statistics import map_moments
from datamodules.source import check_rules
from datamodules.splits import SPLIT_CODES
from datamodules.store import RowStore

UNITS = {
    "cross_section": "cm2 / g",
    "log_mass": "dex(Msun)",
    "core_radius": "kpc",
    "bcg_offset": "kpc",
    "age": "Gyr",
}
ROLES = ("known", "hidden", "calibration", "foreign")
NO_SIMULATION = -1
"""Code of a map that comes from no simulation."""


class SIDMDataModule(BaseDataModule):
    """Maps of galaxy clusters, one row a map; the maps of one simulation are a population.

    A batch is a dict:

    | key | shape, type | meaning |
    |---|---|---|
    | `index` | (B,) int64 | row in the prepared store; `names(index)` are ids |
    | `map` | (B, C, H, W) float32 | see below; NaN where not `good` |
    | `good` | (B, H, W) bool | pixels that are good in every channel |
    | `simulation` | (B,) int64 | position in `simulations`, -1 none |
    | `label` | (B,) float32 | cross-section in cm^2/g of known simulations, else NaN |

    Maps of `total` mass and `stars` are in Msun/kpc^2, of `xray` in 1e40 erg/s/kpc^2.

    Evaluation batches also have `true_label` (B,) float32, the cross-section of every simulation
    that has one, `halo` (B,) int64, and `split`.

    Each simulation of the data has one role. The cross-section of a `known` one is given in
    training (where nothing is trained, one of unknown cross-section counts as hidden); of a
    `hidden` one it never is, though its maps may be; `calibration` and `foreign` ones are never
    trained on. The split is by halo. Maps of simulations that take no part in training, and maps
    of none, are held out (split 2), unless a training simulation has the same halo: then they keep
    its side, and are still in no training or validation batch.

    Args:
        source: Where the maps come from.
        known: Names or shell patterns of known simulations.
        hidden: Of hidden simulations. An exact name wins over a pattern; a pattern takes what no
            list names and no pattern before it took.
        calibration: Of simulations by which intervals are scaled at test.
        foreign: Of simulations that should be rejected.
        train_on_hidden: Whether maps of hidden simulations are in training, as the paper's are.
        memory_limit_gib: Maps held in memory at most; a larger store stays in its file and is read
            batch by batch.
        batch_size: Maps in one process's batch.
        num_workers: Worker processes of the loaders; 0 is fastest for arrays in memory.
        seed: Fixes simulation, split and shuffle.
        val_fraction: Share of halos for validation.
        test_fraction: Share of halos held out.
        cache_dir: Folder of the prepared row stores.

    Attributes:
        simulations: Names, known ones in the order given, then hidden, calibration and foreign
            ones, after `setup`.
        roles: Simulation to role, after `setup`.
        channels: Names of the channels of `map`, after `setup`.
        pixel_scale: Size of a pixel in kpc, after `setup`.
    """

    method: ClassVar[str] = "sidm"
    schema: ClassVar[str] = SCHEMA
    units: ClassVar[Mapping[str, str]] = UNITS
    evaluation_only: ClassVar[tuple[str, ...]] = ("true_label", "halo")
    split_settings: ClassVar[tuple[str, ...]] = (
        *BaseDataModule.split_settings, *ROLES, "train_on_hidden"
    )  # fmt: skip
    rows_per_block: ClassVar[int] = 256

    def __init__(
        self,
        source: SIDMSource,
        known: Sequence[str] = (),
        hidden: Sequence[str] = (),
        calibration: Sequence[str] = (),
        foreign: Sequence[str] = (),
        train_on_hidden: bool = True,
        memory_limit_gib: float = 4.0,
        batch_size: int = 120,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.25,
        cache_dir: str = ".astrolit",
    ) -> None:
        super().__init__(
            source, batch_size, num_workers, seed, val_fraction, test_fraction, cache_dir
        )
        rule = f"memory_limit_gib={memory_limit_gib} must not be negative"
        check_rules("data", {rule: memory_limit_gib >= 0})
        self.known, self.hidden = list(known), list(hidden)
        self.calibration, self.foreign = list(calibration), list(foreign)
        self.lists = {name: getattr(self, name) for name in ROLES}
        self.train_on_hidden = train_on_hidden
        self.memory_limit_gib = memory_limit_gib

    def setup(self, stage: str | None = None) -> None:
        """Open the store, give simulations their roles, load the maps and split by halo (once).

        Raises:
            ValueError: A list of simulations is wrong, or there is nothing to train on.
        """
        super().setup()
        if stage == "fit":
            self._check_known()
        super().setup(stage)

    def load(self, store: RowStore) -> dict[str, Tensor]:
        """Read the maps, or leave them in the file if they are larger than the limit."""
        self.channels: list[str] = list(store.attributes["channels"])
        self.pixel_scale = float(store.attributes["pixel_scale"])
        narrow = store.read(["simulation", "cross_section", "halo"])
        truth = narrow["cross_section"].astype(np.float32)
        code = self._codes(narrow["simulation"], truth, str(store.path))
        num_known = sum(role == "known" for role in self.roles.values())
        known = (code >= 0) & (code < num_known)
        columns = {
            "index": torch.arange(store.num_rows),
            "simulation": torch.from_numpy(code),
            "label": torch.from_numpy(np.where(known, truth, np.float32(np.nan))),
            "true_label": torch.from_numpy(truth),
            "halo": torch.from_numpy(narrow["halo"].astype(np.int64)),
        }
        return {**columns, **self._maps(store)}

    def split_rows(
        self, codes: Tensor, columns: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Keep simulations that take no part out of training and validation.

        Args:
            codes: Codes by the hash of the halo, shape (N,).
            columns: The arrays of the batch.
        """
        trained = ("known", "hidden") if self.train_on_hidden else ("known",)
        takes_part = torch.tensor([*(r in trained for r in self.roles.values()), False])
        used = takes_part[columns["simulation"]]  # -1 is the last, which takes no part
        beside = torch.isin(columns["halo"], columns["halo"][used].unique())
        codes, rows = super().split_rows(torch.where(beside, codes, SPLIT_CODES["test"]), columns)
        return codes, {n: r if n == "test" else r[used[r]] for n, r in rows.items()}

    def groups(self, index: Tensor | NDArray[np.int64]) -> NDArray[Any]:
        """Return the halo of each row of the store.

        Args:
            index: Rows of the store, as in a batch, shape (n,).
        """
        return self.store.read(["halo"], np.asarray(index, dtype=np.int64))["halo"]

    def training_statistics(self) -> dict[str, Tensor]:
        """Return what a model is fitted from, of the training split in one pass.

        Returns:
            `ring_mean`, `ring_std` (C, K) and `log_max_mean`, `log_max_std` (C,) float32, see
            `map_moments`; and those of `training_labels` and `pixels`.
        """
        return {
            **self.training_labels(),
            **map_moments(self.batches("train", ["map", "good"]), self.sample_shapes["map"]),
            **self.pixels(),
        }

    def training_labels(self) -> dict[str, Tensor]:
        """Return what a training is told of the simulations, in the order of their codes.

        Returns:
            `known_label` (A,) float32: cross-sections of the known simulations in cm^2/g;
            `num_hidden` () int64: hidden simulations in training.
        """
        roles = list(self.roles.values())
        first = [(self.columns["simulation"] == k).nonzero()[0, 0] for k in range(len(roles))]
        known = [row for row, role in zip(first, roles, strict=True) if role == "known"]
        hidden = roles.count("hidden") if self.train_on_hidden else 0
        return {
            "known_label": torch.tensor([self.columns["label"][row] for row in known]),
            "num_hidden": torch.tensor(hidden),
        }

    def pixels(self) -> dict[str, Tensor]:
        """Return what a model that is given other maps must find alike.

        Returns:
            `pixel_scale` () float32 in kpc; `channel` (C,) int64, positions of the channels in
            `total`, `xray`, `stars`.
        """
        return {
            "pixel_scale": torch.tensor(self.pixel_scale),
            "channel": torch.tensor([CHANNELS.index(name) for name in self.channels]),
        }

    def provenance(self) -> dict[str, Any]:
        """Return what the data are: source, roles of the simulations, problems of files."""
        kept = ("seed", "redrawn", "lost_blocks", "problems", "defaults")
        attributes = self.store.attributes
        return {
            **super().provenance(),
            "simulations": {r: [n for n in self.roles if self.roles[n] == r] for r in self.lists},
            "train_on_hidden": self.train_on_hidden,
            "channels": self.channels,
            "pixel_scale": self.pixel_scale,
            **{name: attributes[name] for name in kept if name in attributes},
        }

    def _codes(
        self, names: NDArray[np.str_], truth: NDArray[np.float32], origin: str
    ) -> NDArray[np.int64]:
        """Give the simulations their roles; return each row's position in `simulations`."""
        found, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        in_order = [str(found[k]) for k in np.argsort(first) if found[k]]
        roles = assign_roles(self.lists, in_order, origin)
        values = {str(name): truth[inverse == k] for k, name in enumerate(found)}
        check_cross_sections(roles, values, origin)
        self.without_value = [
            name for name, role in roles.items() if role == "known" and np.isnan(values[name][0])
        ]
        roles |= dict.fromkeys(self.without_value, "hidden")
        order = sorted(roles, key=lambda name: [*self.lists].index(roles[name]))
        self.roles = {name: roles[name] for name in order}
        self.simulations = list(self.roles)
        place = {name: code for code, name in enumerate(self.simulations)}
        return np.array([place.get(str(name), NO_SIMULATION) for name in found])[inverse]

    def _check_known(self) -> None:
        """Refuse to train without known simulations, or on one whose cross-section is missing."""
        where, lists = self.store.path, self.lists["known"]
        if self.without_value:
            raise ValueError(
                f"{where}: the cross-section of {self.without_value[0]!r} is missing; give it in "
                "the column cross_section, or list the simulation in data.hidden"
            )
        if "known" not in self.roles.values():
            found = f"the data have {self.simulations or 'maps of no simulation alone'}"
            raise ValueError(
                f"{where}: no simulation matches data.known={lists}, so there is nothing to train "
                f"on; {found}"
            )

    def _maps(self, store: RowStore) -> dict[str, Tensor]:
        """Return maps and good pixels in memory or in the file, and say which."""
        columns = {n: StoredColumn(store, n).as_tensor() for n in ("map", "good")}
        channels, height, width = columns["map"].shape[1:]
        if channels != len(self.channels):
            raise ValueError(f"{store.path}: {channels} channels, but names {self.channels}")
        size = store.num_rows * height * width * (4 * channels + 1) / 2**30
        self.in_memory = size <= self.memory_limit_gib
        if self.in_memory:
            columns = {name: torch.from_numpy(store.read([name])[name]) for name in columns}
        place = "in memory" if self.in_memory else "read from the file batch by batch"
        rank_zero_info(f"{store.num_rows} maps of {height} x {width} pixels: {place}")
        for sentence in (
            *store.attributes.get("defaults", ()),
            *store.attributes.get("problems", ()),
        ):
            rank_zero_info(sentence)
        return columns
