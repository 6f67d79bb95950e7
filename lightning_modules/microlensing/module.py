"""The causal classifier of microlensing light curves."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAUROC
from torchmetrics.utilities.data import dim_zero_cat

from lightning_modules.base import BaseModule, Batch
from lightning_modules.microlensing.calibration import CalibrationSample, EpochTemperature
from lightning_modules.microlensing.curves import KeptEpochs, keep_epochs, spread_epochs
from lightning_modules.microlensing.network import (
    CurveNetwork,
    DilatedNetwork,
    ReferenceNetwork,
)
from lightning_modules.microlensing.streaming import Stream
from lightning_modules.optimizers import Schedule


class LabelledAUROC(MulticlassAUROC):
    """Area under the ROC curve of labelled objects; NaN if there are none (label -1)."""

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the mean over classes of one against the rest."""
        target = dim_zero_cat(self.target)
        return super().compute() if len(target) else torch.tensor(torch.nan, device=self.device)


class TimeDistributedCNN(BaseModule):
    """Classifies a light curve at every epoch, from that epoch and those before it.

    The default network is dilated causal convolutions over tokens of epochs; `network: reference`
    with `channels: [128, 64, 32], kernel_sizes: [5, 3, 3], hidden_dim: 64, dropout: 0.3` is that
    of kunalb541/Thesis, made causal.

    The loss of a curve is the cross-entropy at each kept epoch, averaged with weights that fall
    with the number n of epochs seen as n^-early_weight: with 0 all epochs count alike, with 1 each
    doubling of n does, so that early epochs decide. The loss of a batch is the mean over its
    labelled curves (weighted by `class_weights`).

    Probabilities are calibrated by a temperature that depends on n, fitted on the validation set
    after each validation of a training run, so that each checkpoint holds that of its own weights.
    Validation losses are those before calibration.

    Logged terms: `loss`; `final_loss`, the cross-entropy at the last epoch; `accuracy` there. In
    validation and test also `auroc` there (the mean over classes of one against the rest).

    Args:
        classes: Names of the classes, in the order of `label`.
        network: `dilated` or `reference`.
        channels: Channels of each convolution.
        kernel_sizes: Taps of each convolution.
        hidden_dim: Width of the hidden layer of the classifier at each epoch.
        dropout: Dropout in convolutions and classifier.
        epochs_per_token: Consecutive kept epochs in a token (`dilated`; `reference` has no tokens).
        early_weight: Exponent of the weight of early epochs.
        label_smoothing: Share of the target spread over all classes.
        class_weights: Weight of each class in the loss; alike if None.
        compile: Compile the network with `torch.compile`.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW; norms, biases and embeddings have none.
        schedule: `constant`, or `cosine`: half a cosine from `lr` to 0 at the last optimizer step.
        warmup_steps: Optimizer steps over which the rate first rises linearly to `lr`.
    """

    terms: ClassVar[tuple[str, ...]] = ("loss", "final_loss", "accuracy")
    class_weights: Tensor

    def __init__(
        self,
        classes: Sequence[str] = ("pspl", "binary"),
        network: Literal["dilated", "reference"] = "dilated",
        channels: Sequence[int] = (32, 32, 32, 32, 32, 32, 32, 32),
        kernel_sizes: Sequence[int] = (3, 3, 3, 3, 3, 3, 3, 3),
        hidden_dim: int = 32,
        dropout: float = 0.0,
        epochs_per_token: int = 5,
        early_weight: float = 0.25,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        compile: bool = False,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(lr, weight_decay, schedule, warmup_steps)
        self.save_hyperparameters()
        self.classes = list(classes)
        self.early_weight = early_weight
        self.label_smoothing = label_smoothing
        weights = [1.0] * len(classes) if class_weights is None else list(class_weights)
        _check_sizes(self.classes, list(channels), list(kernel_sizes), weights)
        self.register_buffer("class_weights", torch.tensor(weights), persistent=False)
        sizes = len(classes), channels, kernel_sizes, hidden_dim, dropout
        self.net: CurveNetwork = (
            DilatedNetwork(*sizes, epochs_per_token)
            if network == "dilated"
            else ReferenceNetwork(*sizes)
        )
        if compile:  # in place: the names of the weights stay
            self.net.compile()
        self.temperature = EpochTemperature()
        self.calibration_sample = CalibrationSample()
        metrics = MetricCollection({"auroc": LabelledAUROC(len(classes), ignore_index=-1)})
        self.val_metrics, self.test_metrics = metrics.clone("val/"), metrics.clone("test/")

    def fit_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Compare the classes with `class_count` of the data; nothing else is fitted to them.

        Raises:
            ValueError: If the data have more classes.
        """
        found = len(statistics["class_count"])
        if found > len(self.classes):
            raise ValueError(
                f"{type(self).__name__} has {len(self.classes)} classes but the data have {found}; "
                "set model.classes"
            )

    def step(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """Return the loss, and loss and accuracy at the last epoch."""
        epochs = self.kept_epochs(batch)
        logits, label = self.net(epochs), batch["label"]
        known = (label >= 0) & (epochs.num_epochs > 0)
        weights = known * self.class_weights[label.clamp_min(0)]
        weights = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        entropy = self._cross_entropy(logits, label)  # (B, N)
        last = (epochs.num_epochs - 1).clamp_min(0).unsqueeze(1)
        final = logits.gather(1, last.unsqueeze(-1).expand(-1, -1, logits.shape[-1])).squeeze(1)
        if stage != "train":
            self._collect(stage, logits, final, epochs, torch.where(known, label, -1))
        right = (final.argmax(dim=-1) == label) & known
        return {
            "loss": (weights * (self.epoch_weights(epochs) * entropy).sum(dim=1)).sum(),
            "final_loss": (weights * entropy.gather(1, last).squeeze(1)).sum(),
            "accuracy": right.sum() / known.sum().clamp_min(1),
        }

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Tensor]:
        """Return calibrated probabilities.

        Returns:
            `index` (B,); `probability` (B, T, C) after each epoch, NaN where none was kept;
            `final_probability` (B, C) after the last, NaN for curves without epochs; `num_epochs`
            kept (B,).
        """
        epochs, good = self.kept_epochs(batch), usable(batch)
        probability = self.probability(epochs)
        last = (epochs.num_epochs - 1).clamp_min(0)
        final = probability[torch.arange(len(last), device=last.device), last]
        final = torch.where(epochs.num_epochs.unsqueeze(-1) > 0, final, torch.nan)
        return {
            "index": batch["index"],
            "probability": spread_epochs(probability, good),
            "final_probability": final,
            "num_epochs": epochs.num_epochs,
        }

    def probability(self, epochs: KeptEpochs) -> Tensor:
        """Return calibrated probabilities after each kept epoch, shape (B, N, C)."""
        logits = self.net(epochs)
        numbers = torch.arange(1, logits.shape[1] + 1, device=logits.device)
        return self.temperature(logits, numbers).exp()

    def stream(self) -> Stream:
        """Return a stream that classifies one light curve epoch by epoch, with today's weights."""
        return Stream(self.net, self.temperature, self.classes)

    def kept_epochs(self, batch: Batch) -> KeptEpochs:
        """Return the epochs of a batch that are good, with finite numbers and positive errors.

        Raises:
            ValueError: If the batch is empty.
        """
        if not len(batch["flux"]):
            raise ValueError(f"{type(self).__name__} got a batch without light curves")
        return keep_epochs(batch["flux"], batch["flux_error"], batch["time"], usable(batch))

    def epoch_weights(self, epochs: KeptEpochs) -> Tensor:
        """Return the weight of each epoch in its curve's loss, sum 1 over a curve, shape (B, N)."""
        numbers = torch.arange(1, epochs.flux.shape[1] + 1, device=epochs.flux.device)
        weights = epochs.valid * numbers.float() ** -self.early_weight
        return weights / weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float).tiny)

    def on_validation_epoch_end(self) -> None:
        """Log the validation's means and metrics; in a training run, calibrate."""
        super().on_validation_epoch_end()
        self._log_metrics("val")
        sample = self.calibration_sample
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            logits, num_epochs, label = sample.compute()
            if len(label):
                self.temperature.fit(logits, num_epochs, label)
        sample.reset()

    def on_test_epoch_end(self) -> None:
        """Log the test's means and metrics."""
        super().on_test_epoch_end()
        self._log_metrics("test")

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the cross-entropy at each epoch, shape (B, N)."""
        target = label.clamp_min(0).unsqueeze(1).expand(logits.shape[:2])
        return functional.cross_entropy(
            logits.transpose(1, 2), target, reduction="none", label_smoothing=self.label_smoothing
        )

    def _collect(
        self, stage: str, logits: Tensor, final: Tensor, epochs: KeptEpochs, label: Tensor
    ) -> None:
        """Add a batch to the metrics of its stage and, in validation, to the calibration."""
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        metrics.update(final.softmax(dim=-1), label)
        if stage == "val":
            self.calibration_sample.update(logits, epochs.num_epochs, label)

    def _log_metrics(self, stage: str) -> None:
        """Log and reset the metrics of a stage."""
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        self.log_dict(metrics.compute(), rank_zero_only=False)
        metrics.reset()


def usable(batch: Batch) -> Tensor:
    """Return which epochs are good, with finite numbers and positive errors, (B, T) bool."""
    finite = [batch[name].isfinite() for name in ("flux", "flux_error", "time")]
    return batch["good"] & finite[0] & finite[1] & finite[2] & (batch["flux_error"] > 0)


def _check_sizes(
    classes: list[str], channels: list[int], kernel_sizes: list[int], weights: list[float]
) -> None:
    """Refuse lists whose lengths do not fit.

    Raises:
        ValueError: Naming the arguments.
    """
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"model.classes={classes} must be two or more different names")
    if len(channels) != len(kernel_sizes) or not channels:
        raise ValueError(
            f"model.channels has {len(channels)} entries and model.kernel_sizes "
            f"{len(kernel_sizes)}: give one of each for every convolution"
        )
    if len(weights) != len(classes):
        raise ValueError(
            f"model.class_weights has {len(weights)} entries for {len(classes)} classes"
        )
