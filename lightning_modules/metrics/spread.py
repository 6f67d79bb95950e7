"""Means over several answers to one question, and how far these are apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Spread:
    """Mean and variance of answers that come one at a time (Welford 1962).

    An answer may bring a variance of its own; the variance is then that of the mixture of all
    answers, the mean of their variances plus the variance of their means.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, value: Tensor, own_std: Tensor | None = None) -> None:
        """Add an answer.

        Args:
            value: Of the same shape each time.
            own_std: The answer's own standard deviation, given each time or never.
        """
        variance = torch.zeros_like(value) if own_std is None else own_std.square()
        if not self.count:
            self.mean, self.squares, self.own = value, torch.zeros_like(value), variance
            self.count = 1
            return
        self.count += 1
        step = value - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (value - self.mean)
        self.own = self.own + (variance - self.own) / self.count

    @property
    def std(self) -> Tensor:
        """The standard deviation of the mixture."""
        return (self.own + self.squares / self.count).sqrt()


def entropy(probability: Tensor) -> Tensor:
    """Return -Σ p ln p over the last axis, in nats."""
    return -torch.xlogy(probability, probability).sum(dim=-1)


def match_columns(overlap: Tensor, field: tuple[int, int] | None = None) -> list[int]:
    """Return the column of a reference that each column of another clustering stands for.

    One to one where they overlap best (Hungarian, on the intersection over the union); a column
    left over, or whose match is not half of its largest overlap, goes where that is.

    Args:
        overlap: Σ over objects of the product of both probabilities, shape (other, reference).
        field: The field's column in both, if it is known: these stand for each other.
    """
    union = overlap.sum(1, keepdim=True) + overlap.sum(0, keepdim=True) - overlap
    shared = (overlap / union.clamp_min(torch.finfo(overlap.dtype).tiny)).cpu().numpy()
    columns = overlap.argmax(dim=1).tolist()
    if field is not None:
        shared[field] = 3.0  # more than any two others
    for row, column in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if (row, column) == field or overlap[row, column] >= 0.5 * overlap[row].max():
            columns[row] = int(column)
    return columns


def merge_columns(probability: Tensor, columns: Sequence[int], count: int) -> Tensor:
    """Return probabilities (B, K) summed into the columns that each stands for, (B, count)."""
    index = torch.tensor(columns, device=probability.device)
    merged = probability.new_zeros(len(probability), count)
    return merged.index_add(1, index, probability)


def merge_answer(said: dict[str, Tensor], columns: Sequence[int], count: int) -> dict[str, Tensor]:
    """Return a clustering's answer with `probability` and its deviation in other columns.

    Args:
        said: Of `predict_step`.
        columns: The column that each of its own stands for; where several stand for one,
            probabilities and variances add up.
        count: Number of columns.
    """
    found = said | {"probability": merge_columns(said["probability"], columns, count)}
    name = _deviation("probability", said)
    if name in said:
        found[name] = merge_columns(said[name].square(), columns, count).sqrt()
    return found


def mean_answer(answers: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return several answers of one model as one, whose deviations hold how far these are apart.

    Args:
        answers: Of `predict_step`, one or more; what is no number is the first one's.
    """
    first: dict[str, Tensor] = {}
    spreads: defaultdict[str, Spread] = defaultdict(Spread)
    for said in answers:
        first = first or said
        for name in _numbers(said):
            spreads[name].add(said[name], said.get(_deviation(name, said)))
    found = dict(first)
    for name, spread in spreads.items():
        if spread.count > 1:
            found |= {name: spread.mean, _deviation(name, first): spread.std}
    return found


class Answers:
    """Adds up what the members of an `Ensemble` say of a batch, one answer at a time."""

    def __init__(self) -> None:
        self._first: dict[str, Tensor] = {}
        self._spreads: defaultdict[str, Spread] = defaultdict(Spread)
        self._latents: defaultdict[str, list[Spread]] = defaultdict(list)
        self._entropies: defaultdict[str, Spread] = defaultdict(Spread)

    def add(self, said: dict[str, Tensor], member: int) -> None:
        """Add an answer.

        Args:
            said: Of `predict_step`.
            member: Number of the member; they come in order.

        Raises:
            ValueError: If it has other keys than those before.
        """
        self._first = self._first or said
        if said.keys() != self._first.keys():
            differ = sorted(said.keys() ^ self._first.keys())
            raise ValueError(f"members of the ensemble differ in whether they predict {differ}")
        for name in _numbers(said):
            value, own_std = said[name], said.get(_deviation(name, said))
            if name.startswith("latent"):
                if member == len(self._latents[name]):
                    self._latents[name].append(Spread())
                self._latents[name][member].add(value, own_std)
                continue
            self._spreads[name].add(value, own_std)
            if _is_distribution(name, value):
                self._entropies[name].add(entropy(value))

    def result(self) -> dict[str, Tensor]:
        """Return means, standard deviations and the parts of the entropy."""
        found = {name: x for name, x in self._first.items() if not x.is_floating_point()}
        for name, spread in self._spreads.items():
            found |= {name: spread.mean, _deviation(name, self._first): spread.std}
        for name, spreads in self._latents.items():
            found[name] = torch.cat([spread.mean for spread in spreads], dim=1)
            deviation = _deviation(name, self._first)
            found[deviation] = torch.cat([spread.std for spread in spreads], dim=1)
        for name, spread in self._entropies.items():
            total, aleatoric = entropy(found[name]), spread.mean
            found[name.replace("probability", "aleatoric")] = aleatoric
            found[name.replace("probability", "epistemic")] = (total - aleatoric).clamp_min(0.0)
        if "assignment" in found and "probability" in found:
            found["assignment"] = found["probability"].argmax(dim=-1)
        return found


def _numbers(said: Mapping[str, Tensor]) -> list[str]:
    """Return the keys that are averaged: floating point, and no deviation of another."""
    own = {_deviation(name, said) for name in said}
    return [name for name, x in said.items() if x.is_floating_point() and name not in own]


def _deviation(name: str, said: Mapping[str, Tensor]) -> str:
    """Return the key of the deviation of a prediction: `<x>_error` where that is one."""
    error = said.get(f"{name}_error")
    same = error is not None and error.shape == said[name].shape
    return f"{name}_error" if same else f"{name}_std"


def _is_distribution(name: str, value: Tensor) -> bool:
    """Return whether a prediction is probabilities over its last axis."""
    return name.endswith("probability") and value.ndim > 1
