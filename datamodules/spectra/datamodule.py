"""Spectra of stars as a LightningDataModule: cuts, usable pixels, labels with errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import BaseDataModule
from datamodules.source import check_rules
from datamodules.spectra.continuum import DEGREE, continuum_mask
from datamodules.spectra.grid import grid_of
from datamodules.spectra.pixel_mask import PixelMaskPolicy
from datamodules.spectra.pixels import PIXEL_BYTES, PixelReader, load_pixels
from datamodules.spectra.schema import LABELS, SCHEMA, UNITS, VERSION
from datamodules.spectra.selection import EVERY_ROW, Selection, describe
from datamodules.spectra.simulate.line_table import element_windows
from datamodules.spectra.source import SpectraSource
from datamodules.spectra.statistics import (
    label_columns,
    label_moments,
    pixel_moments,
    pixel_noise,
)
from datamodules.store import RowStore

DEFAULT_SELECTION = Selection()
DEFAULT_POLICY = PixelMaskPolicy()
REPORT_ROWS = 4096
NOISE_ROWS = 2048
"""Training spectra whose errors give the typical noise of each pixel."""


class SpectraDataModule(BaseDataModule):
    """Spectra on one of APOGEE's grids, one row a spectrum.

    A batch is a dict:

    | key | shape, type | meaning |
    |---|---|---|
    | `index` | (B,) int64 | row in the prepared store; `names(index)` are the stars' ids |
    | `flux` | (B, P) float32 | flux over the continuum; anything, also NaN, where not `good` |
    | `flux_ivar` | (B, P) float32 | 1 / max(error, floor)^2, 0 where not `good` |
    | `good` | (B, P) bool | usable pixels |
    | `label` | (B, L) float32 | the `labels` in physical units, NaN where missing |
    | `label_error` | (B, L) float32 | their errors in the same units, 0 where unknown |

    Labels are an input of the models, so they are in every batch. All is one table, so that
    nothing can get out of step. Spectra of one star share its id and never straddle the split.

    The selection decides what is trained on, validated and tested; `predict` keeps every spectrum,
    also those without any usable pixel. Otherwise spectra with too few usable pixels are left out
    and counted.

    Args:
        source: Where the spectra come from.
        labels: Columns that are given to the models.
        mask_policy: Which pixels are bad.
        selection: Cuts on the catalogue; null uses every row. On the command line give it whole,
            such as `--data.init_args.selection '{"snr": [100, null]}'`.
        error_floor: Smallest error over the continuum: no pixel is known better, for normalisation
            and resampling leave that much.
        min_good_fraction: Smallest share of usable pixels of a spectrum to train or test on.
        memory_limit_gib: Spectra held in memory at most; more stay in their file and are read batch
            by batch.
        batch_size: Spectra in one process's batch.
        num_workers: Worker processes of the loaders; 0 is fastest for arrays in memory.
        seed: Fixes simulation, split and shuffle.
        val_fraction: Share of stars for validation.
        test_fraction: Share of stars held out.
        cache_dir: Folder of the prepared row stores.

    Attributes:
        wavelength: Vacuum wavelength of the pixels in A, (P,) float64, after `setup`.
        grid: The pixels, after `setup`.
        counts: Rows by cut, after `setup`.
    """

    method: ClassVar[str] = "spectra"
    schema: ClassVar[str] = SCHEMA
    version: ClassVar[int] = VERSION
    units: ClassVar[Mapping[str, str]] = UNITS
    evaluation_only: ClassVar[tuple[str, ...]] = ()
    rows_per_block: ClassVar[int] = 1024
    source: SpectraSource

    def __init__(
        self,
        source: SpectraSource,
        labels: Sequence[str] = LABELS,
        mask_policy: PixelMaskPolicy = DEFAULT_POLICY,
        selection: Selection | None = DEFAULT_SELECTION,
        error_floor: float = 0.005,
        min_good_fraction: float = 0.5,
        memory_limit_gib: float = 8.0,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.25,
        cache_dir: str = ".astrolit",
    ) -> None:
        super().__init__(
            source, batch_size, num_workers, seed, val_fraction, test_fraction, cache_dir
        )
        rules = {
            f"min_good_fraction={min_good_fraction} must be in 0..1": 0 <= min_good_fraction <= 1,
            f"error_floor={error_floor} must not be negative": error_floor >= 0,
            f"memory_limit_gib={memory_limit_gib} must not be negative": memory_limit_gib >= 0,
            f"labels={list(labels)} must not name a label twice": len({*labels}) == len(labels),
        }
        check_rules("data", rules)
        self.labels = tuple(labels)
        self.mask_policy = mask_policy
        self.selection = selection
        self.error_floor = error_floor
        self.min_good_fraction = min_good_fraction
        self.memory_limit_gib = memory_limit_gib
        self.counts: dict[str, int] = {}
        self._loaded_all = False

    @property
    def store_path(self) -> Path:
        """The prepared row store: a prediction's is another one where the cuts made this one."""
        self.source.selection = self._cuts
        return super().store_path

    def setup(self, stage: str | None = None) -> None:
        """Open the store, apply the cuts, load the spectra and split by star.

        Raises:
            ValueError: To fit, but no star fell into the training split; or no spectrum is left.
        """
        if self.columns and self._loaded_all != self._predicting:
            self.columns = {}
        self._loaded_all = self._predicting
        super().setup(stage)

    def load(self, store: RowStore) -> dict[str, Tensor]:
        """Apply the cuts and read the spectra, or leave them in the file if they are too large."""
        self._names = store.read([self.id_column])[self.id_column]
        catalogue = store.read([name for name in store.scalars if name != self.id_column])
        self.wavelength = store.read_shared("wavelength")
        self.grid = grid_of(len(self.wavelength), str(store.path))
        kept, counts = (self._cuts or EVERY_ROW).select({**catalogue, self.id_column: self._names})
        if self._cuts is not None and self.source.selects:
            counts = store.attributes["counts"]  # the store holds only rows that pass
        min_good = 0.0 if self._predicting else self.min_good_fraction
        size = int(kept.sum()) * self.grid.num_pixels * PIXEL_BYTES / 2**30
        self.in_memory = size <= self.memory_limit_gib
        self.reader = PixelReader(store, self.mask_policy, self.error_floor)
        num_pixels = self.grid.num_pixels
        index, pixels = load_pixels(self.reader, kept, num_pixels, min_good, self.in_memory)
        few = counts["selected"] - len(index)
        self.counts = {**counts, "too_few_good_pixels": few, "kept": len(index)}
        self._announce(store)
        label, error = label_columns(catalogue, self.labels, str(store.path))
        return {"index": index, **pixels, "label": label[index], "label_error": error[index]}

    def names(self, index: Tensor | NDArray[np.int64]) -> NDArray[Any]:
        """Return the stars' ids of rows of the store."""
        return self._names[np.asarray(index)]

    def true_flux(self, index: Tensor | NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the spectra without noise, (n, P), or None if nobody knows them.

        Args:
            index: Rows of the store, as in a batch, (n,).
        """
        if "true_flux" not in self.store.names:
            return None
        return self.store.read(["true_flux"], np.asarray(index, dtype=np.int64))["true_flux"]

    def element_windows(self) -> dict[str, list[tuple[float, float]]]:
        """Return the windows of each element's lines in vacuum A, for reports by element."""
        return element_windows()

    def training_statistics(self) -> dict[str, Tensor]:
        """Return what a model scales by, of the training spectra, in one pass in float64.

        Returns:
            `flux_mean`, `flux_scale` (P,): mean and deviation over usable pixels, the latter
            positive; `flux_noise` (P,): median error, of up to 2048 spectra; `label_mean`,
            `label_std` (L,): over the rows that have the label; `continuum_mask` (P,) bool and
            `continuum_degree` () int64: how spectra with a continuum are to be normalised, so that
            it travels with the model.
        """
        degree = self.store.attributes.get("continuum_degree")
        mask = (
            continuum_mask(self.grid)
            if degree is None
            else self.store.read_shared("continuum_mask")
        )
        rows = self.rows["train"]
        mean, scale = pixel_moments(self.batches("train", ["flux", "good"]), self.grid.num_pixels)
        some = _spread(rows, NOISE_ROWS).split(self.rows_per_block)
        ivar = torch.cat([self.columns["flux_ivar"][part] for part in some])
        label_mean, label_std = label_moments(self.columns["label"][rows])
        return {
            "flux_mean": mean,
            "flux_scale": scale,
            "flux_noise": pixel_noise(ivar),
            "label_mean": label_mean,
            "label_std": label_std,
            "continuum_mask": torch.from_numpy(mask.astype(bool)),
            "continuum_degree": torch.tensor(DEGREE if degree is None else degree),
        }

    def mask_report(self) -> dict[str, dict[str, dict[str, float]]]:
        """Say what share of the pixels each bit of the mask covers and is alone in losing.

        Returns:
            For `all` and `test`, from up to 4096 spectra each: see `PixelMaskPolicy.shares`.
        """
        rows = {split: _spread(self.rows[split], REPORT_ROWS) for split in ("all", "test")}
        return {
            split: self.reader.shares(self.columns["index"][some].numpy())
            for split, some in rows.items()
            if len(some)
        }

    def provenance(self) -> dict[str, Any]:
        """Return what the data are: source, cuts with counts, policy of bad pixels, defaults."""
        return {
            **super().provenance(),
            "labels": list(self.labels),
            "selection": self._cuts.parameters() if self._cuts else None,
            "counts": self.counts,
            "mask_policy": self.mask_policy.parameters(),
            "error_floor": self.error_floor,
            "min_good_fraction": self.min_good_fraction,
            "defaults": self.store.attributes.get("defaults", []),
        }

    @property
    def _predicting(self) -> bool:
        """Whether the trainer that this is attached to predicts."""
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING

    @property
    def _cuts(self) -> Selection | None:
        """The cuts that hold now: none in a prediction."""
        return None if self._predicting else self.selection

    def _announce(self, store: RowStore) -> None:
        """Print what was kept and what was not, and refuse to go on with nothing.

        Raises:
            ValueError: No spectrum is left.
        """
        place = "in memory" if self.in_memory else "read from the file batch by batch"
        rank_zero_info(f"{describe(self.counts)}; {self.grid.num_pixels} pixels, {place}")
        for sentence in store.attributes.get("defaults", []):
            rank_zero_info(sentence)
        if not self.counts["kept"]:
            raise ValueError(
                f"{store.path}: no spectrum is left ({describe(self.counts)}); loosen "
                "data.selection, data.min_good_fraction or data.mask_policy"
            )


def _spread(rows: Tensor, wanted: int) -> Tensor:
    """Return at most `wanted` of some rows, evenly spread over them, in order."""
    size = len(rows)
    return rows[torch.linspace(0, max(size - 1, 0), min(wanted, size)).long()]
