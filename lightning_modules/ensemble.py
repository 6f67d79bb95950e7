"""Several trained runs of a method as one model: their mean, and how far they are apart."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_modules.base import BaseModule, Batch
from lightning_modules.metrics.spread import Answers, match_columns, mean_answer, merge_answer
from lightning_modules.nn.draws import COVARIANCE_OF, dropout_at_work, dropouts, redrawn
from lightning_modules.remembered import build, read, restore
from lightning_modules.runs import find_checkpoint

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

    Errors of measurements are aleatoric: the answers of a member to `error_draws` measurements,
    the same for all members, count as one, their mean, before any entropy is taken, and their
    scatter is part of that answer's own variance.

    Columns of a clustering have no names. Those of each member are lined up, by their overlap on
    the training split, with those of the member that has most, the field with the field where it is
    known, once: by `astrolit ensemble`, else before the first evaluation; a cluster that this
    reference does not know joins the column, such as the field, that it overlaps most. Latents of
    different members span different spaces: they stand beside each other, (B, sum of the members'
    dimensions). `loss` is the mean of the members' losses; it is not logged of models whose own is
    no mean over batches.

    Reference: Lakshminarayanan et al. 2017 (arXiv:1612.01474); Depeweg et al. 2018
    (arXiv:1710.07283) for the two parts.

    Args:
        members: Each a run's folder or checkpoint, or what a checkpoint remembers of its model:
            `class_path` and `init_args`. A checkpoint of the ensemble holds all of the latter kind.
        dropout_draws: Answers of each member with dropout at work (Monte Carlo dropout).
        error_draws: Measurements drawn anew within their errors, those of the batch's `<x>_error`,
            `<x>_ivar` or `covariance`, for each answer. With both, every dropout sees every draw.
        columns: For each member, the column of the ensemble that each of its columns stands for;
            found if null.
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
        if not parts[0][1].loss_is_of_batches:  # before the base makes a mean of each
            self.terms = ()  # type: ignore[misc]
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
            ValueError: To fit, or if the data are not what a member takes, or what cannot be drawn
                anew within its errors.
        """
        if stage == "fit":
            raise ValueError(UNTRAINED)
        super().setup(stage)
        for member in self.models:
            member.trainer = self.trainer
            member.setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        names = getattr(data, "features", COVARIANCE_OF)
        if self.error_draws and tuple(names[:5]) != COVARIANCE_OF:
            raise ValueError(
                f"error_draws={self.error_draws} needs data.features that begin with "
                f"{list(COVARIANCE_OF)}, not {list(names)}: set error_draws to 0"
            )
        if data is not None and self.columns is None:
            self.line_up(data)

    @torch.no_grad()
    def line_up(self, data: Any) -> None:
        """Find which column of the ensemble each member's columns stand for, if nameless.

        Args:
            data: A datamodule that is set up; `batches("train")` are asked.

        Raises:
            ValueError: If columns must be lined up and there is no training split.
        """
        probe = self._ask(next(data.batches("all")), 2)
        if not all({"assignment", "probability"} <= said.keys() for said in probe):
            return
        counts = [said["probability"].shape[1] for said in probe]
        reference = counts.index(max(counts))
        overlaps: list[Tensor] = []
        for batch in data.batches("train"):
            said = [one["probability"].double() for one in self._ask(batch)]
            found = [one.mT @ said[reference] for one in said]
            overlaps = [a + b for a, b in zip(overlaps, found, strict=True)] if overlaps else found
        if not overlaps:
            raise ValueError(
                "columns of clusterings are lined up on the training split, and no object "
                "fell into it; lower data.val_fraction and data.test_fraction"
            )
        self.columns = [
            self._match(overlap, number, reference) for number, overlap in enumerate(overlaps)
        ]
        self.hparams["columns"] = self.columns

    def _ask(self, batch: Batch, count: int | None = None) -> list[dict[str, Tensor]]:
        """Return what each member says of the first objects of a batch."""
        own = {name: values[:count].to(self.device) for name, values in batch.items()}
        return [member.predict_step(own) for member in self.models]

    def _match(self, overlap: Tensor, number: int, reference: int) -> list[int]:
        """Return the reference's column of each of a member's; say which of its are joined."""
        if number == reference:
            return list(range(overlap.shape[0]))
        own, other = (_field_of(self.models[k]) for k in (number, reference))
        field = None if own is None or other is None else (own, other)
        columns = match_columns(overlap, field)
        for target in sorted(set(columns)):
            joined = [k for k, column in enumerate(columns) if column == target]
            if len(joined) > 1:
                what = "the field" if target == other else f"column {target}"
                rank_zero_info(f"member {number}: its columns {joined} together are {what}")
        return columns

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the mean of the members' losses, where it is logged."""
        if stage == "train":
            raise ValueError(UNTRAINED)
        if not self.terms:
            return {}
        losses = [member.step(batch, stage)["loss"] for member in self.models]
        return {"loss": torch.stack(losses).mean()}

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return the members' keys as means, `<x>_std`, and the parts of the entropy."""
        answers = Answers()
        drawn = [redrawn(batch) for _ in range(self.error_draws)] or [batch]
        for number, member in enumerate(self.models):
            for said in self._draws(member, drawn):
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

    @property
    def field_column(self) -> int | None:
        """Column of `probability` that is the field; None if no member knows it."""
        for number, member in enumerate(self.models):
            field = _field_of(member)
            if field is not None:
                return field if self.columns is None else self.columns[number][field]
        return None

    @property
    def classes(self) -> list[str]:
        """Names of the columns of `probability`; empty if the members have none."""
        return list(getattr(self.models[0], "classes", ()))

    @property
    def _members(self) -> list[Any]:
        """The members, with what only some methods' models have."""
        return list(self.models)

    def _draws(self, member: BaseModule, drawn: Sequence[Batch]) -> Iterator[dict[str, Tensor]]:
        """Yield the answers of a member, one for each dropout; each a mean over measurements."""
        for _ in range(max(1, self.dropout_draws)):
            seed = int(torch.randint(2**31, ())) if self.dropout_draws else 0
            yield mean_answer(self._answer(member, batch, seed) for batch in drawn)

    def _answer(self, member: BaseModule, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Return what a member says, with the dropout of a seed where dropout is asked for."""
        with dropout_at_work(member, seed) if self.dropout_draws else nullcontext():
            return member.predict_step(batch)

    def _lined_up(self, said: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        """Return a member's answer with the columns of the ensemble."""
        if not {"assignment", "probability"} <= said.keys() or len(self.members) == 1:
            return said
        if self.columns is None:
            raise ValueError(
                "the columns of these clusterings are not lined up yet: call "
                "Ensemble.line_up(datamodule), or test with a datamodule"
            )
        count = 1 + max(column for columns in self.columns for column in columns)
        return merge_answer(said, self.columns[number], count)


def _field_of(member: nn.Module) -> int | None:
    """Return the column that a model says is the field."""
    field: int | None = getattr(member, "field_column", None)
    return field


def _take(member: str | Mapping[str, Any]) -> tuple[dict[str, Any], BaseModule]:
    """Return what is remembered of a member, and the member."""
    if isinstance(member, str):
        path = find_checkpoint(member)
        return restore(read(path), path)
    plain = {"class_path": member["class_path"], "init_args": dict(member["init_args"])}
    return plain, build(plain["class_path"], plain["init_args"])
