"""Other trained runs that stand beside the tested one in its report."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.report.gather import RowGatherer, Rows, check_finite


class Beside:
    """Trained models that answer the batches of a test run as the tested one does.

    Args:
        modules: Name in the report to the model, loaded from its checkpoint.
        keys: Keys of `test_step`'s answer that are kept, where it has them.
        taken: Names that the report uses itself.

    Raises:
        ValueError: If a name cannot be part of a report's keys, or is taken.
    """

    def __init__(
        self,
        modules: Mapping[str, LightningModule],
        keys: Sequence[str],
        taken: Sequence[str] = (),
    ) -> None:
        self.modules = dict(modules)
        self.keys = tuple(keys)
        self._rows = {name: RowGatherer() for name in modules}
        for name in self.modules:
            if not name or set(name) & set("/= "):
                raise ValueError(
                    f"beside: {name!r} cannot name a run in the report; use a name without "
                    "blanks, slashes and equals signs"
                )
            if name in taken:
                raise ValueError(
                    f"beside: {name} is a baseline of the report; use a name other than "
                    f"{', '.join(taken)}"
                )

    def start(self, device: torch.device) -> None:
        """Bring the models to the device of the batches, to evaluate only."""
        for module in self.modules.values():
            module.to(device).eval()

    @torch.no_grad()
    def add(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        """Let every model answer a batch, at the trainer's precision.

        Args:
            trainer: Of the test run.
            batch: As the tested model got it.
            batch_idx: Its number.

        Raises:
            ValueError: If a model does not take these data; the message names it.
        """
        for name, module in self.modules.items():
            with trainer.precision_plugin.forward_context():
                try:
                    answer: Any = module.test_step(batch, batch_idx)
                except ValueError as error:
                    raise ValueError(f"beside {name}: {error}") from error
            kept = {key: answer[key] for key in ("index", *self.keys) if key in answer}
            self._rows[name].add(kept)

    def gather(self, trainer: Trainer) -> dict[str, Rows]:
        """Return each model's rows of all ranks, sorted by index; every rank must call this.

        Raises:
            ValueError: If a prediction is not finite.
        """
        found = {name: rows.gather(trainer) for name, rows in self._rows.items()}
        for name, rows in found.items():
            try:
                check_finite(rows, self.keys)
            except ValueError as error:
                raise ValueError(f"beside {name}: {error}") from error
        return found

    def notes(self) -> list[str]:
        """Return one line that says which models these are, if there are any."""
        kinds = (f"{name} ({type(module).__name__})" for name, module in self.modules.items())
        return [f"trained runs on the same rows: {', '.join(kinds)}"] if self.modules else []
