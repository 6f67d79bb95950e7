"""Why a training ends, told from what the Trainer shows."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer


def stop_reason(trainer: Trainer, epochs: int) -> str | None:
    """Return why the training ends here in one line, or None if it goes on.

    Limits come first, as Lightning asks them; a model that ends the training itself has put its
    own reason into its `run_record`, which wins.

    Args:
        trainer: In training.
        epochs: Epochs done, with one that is being ended.
    """
    if 0 < trainer.max_steps <= trainer.global_step:
        return f"max_steps: {trainer.global_step} steps"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        return f"max_epochs: {epochs} epochs"
    if not trainer.should_stop:
        return None
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    reasons = (_of_callback(callback) for callback in callbacks)
    return next((reason for reason in reasons if reason), "a callback set should_stop")


def _of_callback(callback: object) -> str | None:
    """Return why a callback ends the training, or None if it does not."""
    if isinstance(callback, Timer):
        remaining = callback.time_remaining()
        ended = remaining is not None and remaining <= 0
        return f"max_time: {callback.time_elapsed():.0f} seconds" if ended else None
    if not isinstance(callback, EarlyStopping):
        return None
    if callback.wait_count < callback.patience:
        return callback.stopping_reason_message
    return (
        f"early stopping: {callback.monitor} did not improve in {callback.wait_count} checks "
        f"(patience {callback.patience}); its best was {float(callback.best_score):.6g}"
    )
