"""Several trained runs of a method as one model: their mean, and how far they are apart."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.base import BaseModule, Batch
from lightning_modules.metrics.spread import Answers, match_columns, merge_columns
from lightning_modules.nn.draws import dropout_at_work, dropouts, redrawn
from lightning_modules.remembered import build, restore
from lightning_modules.runs import find_checkpoint

OF_COLUMNS = ("classes", "field_column")
"""What models say of the columns of their probabilities."""
UNTRAINED = "an Ensemble is not trained: fit its members one by one, as `astrolit sweep` does"


class Ensemble(BaseModule):
    """Answers `test` and `predict` with the mean of several trained models of one class.

    Every number x that the members predict becomes the mean over members (and draws), with its
    standard deviation `<x>_std`. If members predict an `<x>_std` or `<x>_error` of their own, that
    becomes the deviation of the mixture: the mean of their variances (aleatoric) plus the variance
    of their means (epistemic). What is no number with a fraction is the first member's.

    Probabilities of classes, in nats, also give `aleatoric`, the mean over members of the entropy
    -Σ p ln p, and `epistemic`, what the entropy of the mean exceeds it by: the mutual information
    of class and member (`final_probability` gives `final_aleatoric`, and so on). `assignment` is
    the largest column of the mean.

    Columns of a clustering have no names. Those of each member are lined up with the first one's
    by their overlap on the training split, once: by `astrolit ensemble`, else before the first
    evaluation; a cluster that the first member does not know joins the column, such as the field,
    that it overlaps most. Latents of different members span different spaces: they stand beside
    each other, (B, sum of the members' dimensions). `loss` is the mean of the members' losses.

    Reference: Lakshminarayanan et al. 2017 (arXiv:1612.01474); Depeweg et al. 2018
    (arXiv:1710.07283) for the two parts.

    Args:
        members: Each a run's folder or checkpoint, or what a checkpoint remembers of its model:
            `class_path` and `init_args`. A checkpoint of the ensemble holds all of the latter kind.
        dropout_draws: Answers of each member with dropout at work (Monte Carlo dropout).
        error_draws: Answers of each member to measurements drawn anew within their errors, those of
            the batch's `<x>_error`, `<x>_ivar` or `covariance`. With both, draws have both.
        columns: For each member, the first one's column that each of its columns stands for; found
            if null.
    """

    def __init__(
        self,
        members: Sequence[str | dict[str, Any]],
        dropout_draws: int = 0,
        error_draws: int = 0,
        columns: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if not members or dropout_draws < 0 or error_draws < 0:
            raise ValueError(
                f"an Ensemble needs members (it has {len(members)}), and dropout_draws="
                f"{dropout_draws} and error_draws={error_draws} must not be negative"
            )
        parts = [_take(member) for member in members]
        kinds = sorted({type(model).__name__ for _, model in parts})
        if len(kinds) > 1:
            raise ValueError(f"members of an Ensemble are of one class, not {', '.join(kinds)}")
        super().__init__()
        self.save_hyperparameters()
        self.hparams["members"] = [remembered for remembered, _ in parts]
        self.needs_checkpoint = not all(isinstance(member, str) for member in members)
        self.members = nn.ModuleList(model.eval() for _, model in parts)
        self.dropout_draws, self.error_draws = dropout_draws, error_draws
        self.columns = None if columns is None else [list(own) for own in columns]
        if dropout_draws and not dropouts(self):
            raise ValueError(
                f"dropout_draws={dropout_draws}, but no {kinds[0]} of the members has a dropout "
                "above 0; set dropout_draws to 0"
            )

    @property
    def models(self) -> list[BaseModule]:
        """The members."""
        return [member for member in self.members if isinstance(member, BaseModule)]

    def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the first member's."""
        return self.models[0].expected_shapes()

    def setup(self, stage: str) -> None:
        """Compare shapes with the data; line up the columns of clusterings.

        Raises:
            ValueError: To fit, or if the data are not what a member takes.
        """
        if stage == "fit":
            raise ValueError(UNTRAINED)
        super().setup(stage)
        for member in self.models:
            member.trainer = self.trainer
            member.setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and self.columns is None:
            self.line_up(data)

    @torch.no_grad()
    def line_up(self, data: Any) -> None:
        """Find which column of the first member each member's columns stand for, if nameless.

        Args:
            data: A datamodule that is set up; `batches("train")` are asked.
        """
        overlaps: list[Tensor] = []
        for batch in data.batches("train"):
            own = {name: values.to(self.device) for name, values in batch.items()}
            if not overlaps and not self._is_clustering({k: v[:2] for k, v in own.items()}):
                return
            said = [member.predict_step(own)["probability"].double() for member in self.models]
            found = [one.mT @ said[0] for one in said]
            overlaps = [a + b for a, b in zip(overlaps, found, strict=True)] if overlaps else found
        first = list(range(overlaps[0].shape[1]))
        self.columns = [first, *(match_columns(overlap) for overlap in overlaps[1:])]
        self.hparams["columns"] = self.columns

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the mean of the members' losses."""
        if stage == "train":
            raise ValueError(UNTRAINED)
        losses = [member.step(batch, stage)["loss"] for member in self.models]
        return {"loss": torch.stack(losses).mean()}

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return the members' keys as means, `<x>_std`, and the parts of the entropy."""
        answers = Answers()
        for number, member in enumerate(self.models):
            for said in self._draws(member, batch):
                answers.add(self._lined_up(said, number), number)
        return answers.result()

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the members' latents beside each other, mean and log-variance; of spectra."""
        mean, log_variance = zip(*(member.encode(batch) for member in self._members), strict=True)
        return torch.cat(mean, dim=1), torch.cat(log_variance, dim=1)

    def decode(self, latent: Tensor, label: Tensor) -> Tensor:
        """Return the mean of what the members make of their latents, of `encode`; of spectra."""
        parts = latent.split([member.net.latent_dim for member in self._members], dim=1)
        pairs = zip(self._members, parts, strict=True)
        return torch.stack([member.decode(part, label) for member, part in pairs]).mean(0)

    def star_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the means over the members of each star's terms; of spectra."""
        said = [member.star_terms(batch) for member in self._members]
        return {name: torch.stack([one[name] for one in said]).mean(0) for name in said[0]}

    def outlier_score(self, batch: Batch) -> Tensor:
        """Return the mean of the members' scores, (B,); of spectra."""
        return self.predict_step(batch)["outlier_score"]

    def __getattr__(self, name: str) -> Any:
        """Return what the first member says of its columns, if it does; else as every module."""
        return getattr(self.members[0], name) if name in OF_COLUMNS else super().__getattr__(name)

    @property
    def _members(self) -> list[Any]:
        """The members, with what only some methods' models have."""
        return list(self.models)

    def _is_clustering(self, batch: Batch) -> bool:
        """Return whether the members put objects into columns without names."""
        return {"assignment", "probability"} <= self.models[0].predict_step(batch).keys()

    def _draws(self, member: BaseModule, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """Yield the answers of a member: one, or as many as draws are asked for."""
        for draw in range(max(1, self.dropout_draws, self.error_draws)):
            own = redrawn(batch) if draw < self.error_draws else batch
            with dropout_at_work(member) if draw < self.dropout_draws else nullcontext():
                yield member.predict_step(own)

    def _lined_up(self, said: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        """Return a member's answer with the columns of the first."""
        if not {"assignment", "probability"} <= said.keys() or len(self.members) == 1:
            return said
        if self.columns is None:
            raise ValueError(
                "the columns of these clusterings are not lined up yet: call "
                "Ensemble.line_up(datamodule), or test with a datamodule"
            )
        count = len(self.columns[0])
        return said | {
            "probability": merge_columns(said["probability"], self.columns[number], count)
        }


def _take(member: str | Mapping[str, Any]) -> tuple[dict[str, Any], BaseModule]:
    """Return what is remembered of a member, and the member."""
    if isinstance(member, str):
        path = find_checkpoint(member)
        return restore(torch.load(path, map_location="cpu", weights_only=True), path)
    plain = {"class_path": member["class_path"], "init_args": dict(member["init_args"])}
    return plain, build(plain["class_path"], plain["init_args"])
