"""The base of models whose classes are cross-sections: which class a simulation is of."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_modules.base import Batch
from lightning_modules.sidm.base import MapModule
from lightning_modules.sidm.classes import (
    MOST_SIMULATIONS,
    SAME,
    class_of_label,
    class_tables,
    distinct,
    look_up,
)

Hidden = Literal["class", "unlabelled"]
TABLES = ("known_label", "class_of_simulation", "takes_part")
"""Buffers that `class_tables` fills."""


class ClassModule(MapModule):
    """Base of models that classify maps by the simulations of the training.

    Data that are evaluated may have other simulations, or the same in another order: then the
    class of a map is that of its own σ/m, and a map whose σ/m is not given has none.
    """

    of_the_data: ClassVar[tuple[str, ...]] = (*MapModule.of_the_data, *TABLES)
    known_label: Tensor
    class_of_simulation: Tensor
    takes_part: Tensor

    def add_tables(self, num_classes: int, hidden: Hidden) -> None:
        """Add the tables of classes, empty; called by constructors.

        Args:
            num_classes: Known values of σ/m, plus hidden simulations with a class of their own.
            hidden: Whether they have one.
        """
        self.num_classes, self.hidden, self.same_simulations = num_classes, hidden, True
        self.register_buffer("known_label", torch.full((num_classes,), torch.nan))
        self.register_buffer("class_of_simulation", torch.full((MOST_SIMULATIONS,), -1))
        self.register_buffer("takes_part", torch.zeros(MOST_SIMULATIONS, dtype=torch.bool))

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Take the scaling's statistics, and give each simulation its class.

        Raises:
            ValueError: If the number of classes is not that of the data.
        """
        super().fit_statistics(statistics)
        labels, num_hidden = statistics["known_label"], int(statistics["num_hidden"])
        tables = class_tables(labels, num_hidden, self.hidden == "class")
        if (found := len(tables[0])) != self.num_classes:
            raise ValueError(
                f"{type(self).__name__} has num_classes={self.num_classes} but the data have "
                f"{len(distinct(labels))} known cross-sections and {num_hidden} hidden simulations "
                f"in training; set model.num_classes to {found}"
            )
        for name, values in zip(TABLES, tables, strict=True):
            getattr(self, name).copy_(values)

    def check_simulations(self, labels: Mapping[str, Tensor], fitting: bool) -> None:
        """See whether codes of simulations mean what they meant in the training.

        Args:
            labels: Of `datamodule.training_labels()`.
            fitting: Whether the training goes on with these data.

        Raises:
            ValueError: If it does, and they do not.
        """
        hidden = labels["known_label"].new_full((int(labels["num_hidden"]),), torch.nan)
        now = torch.cat([labels["known_label"], hidden])
        classes = self.class_of_simulation[self.takes_part].cpu()
        before = torch.where(classes < 0, torch.nan, self.known_label.cpu()[classes])
        self.same_simulations = now.shape == before.shape and bool(
            torch.isclose(now, before.to(now), rtol=SAME, equal_nan=True).all()
        )
        if fitting and not self.same_simulations:
            raise ValueError(
                f"this {type(self).__name__} was trained on simulations of {before.tolist()} "
                f"cm^2/g (nan: hidden), in this order, not of {now.tolist()}; name the same in "
                "data.known and data.hidden, or start a new training by --init_from"
            )

    def classes_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each map's class, -1 for none, and whether it takes part in the loss."""
        if self.same_simulations:
            return look_up(batch["simulation"], self.class_of_simulation, self.takes_part)
        target = class_of_label(batch["label"], self.known_label)
        return target, target >= 0
