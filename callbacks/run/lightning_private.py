"""All that touches what Lightning keeps private; written against version 2.6.6, which a test asks.

Lightning resumes a checkpoint that was saved after the last batch of an epoch, or inside a
validation, as if that validation had run: its metrics, and the end of the epoch, are lost. Most
functions here edit the saved counters so that the work still due is done on resume.
"""

from typing import Any

from lightning.pytorch import Trainer


def take_sigterm(trainer: Trainer) -> bool:
    """Return whether Lightning's own handler has noted a SIGTERM, and make it forget that."""
    received = trainer.received_sigterm
    trainer._signal_connector.received_sigterm = False
    return received


def mark_due_work(trainer: Trainer, checkpoint: dict[str, Any], validating: bool) -> bool:
    """Edit the loop counters of a checkpoint in the making.

    Args:
        trainer: The trainer that saves.
        checkpoint: Its `loops` are edited.
        validating: Whether a validation has begun and not ended.

    Returns:
        Whether the resumed run will begin with a whole validation.
    """
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    if progress["current"]["processed"] > progress["current"]["completed"]:  # on_train_batch_end
        epoch_loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        due = epoch_loop._should_check_val_fx(fetcher)
        if not due and not epoch_loop._num_ready_batches_reached():
            return False
        for counter in ("total", "current"):
            progress[counter]["completed"] += 1
        if not due:
            _mark_epoch_as_read(loops)
            return False
    elif not validating:
        return False
    # "One batch begun, none done" is what Lightning takes for an interrupted validation.
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    validation = loops["epoch_loop.val_loop.batch_progress"]
    validation.update(total=dict(begun), current=dict(begun), is_last_batch=False)
    return True


def begin_resuming(trainer: Trainer) -> None:
    """Let a run with `max_steps` resume as one without does, until `on_train_start`.

    Lightning takes a checkpoint of a finished epoch for an unfinished one if `max_steps` is set,
    ends that epoch twice and so trains one epoch too few. To be called when a checkpoint is loaded.
    """
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def epoch_just_ended(checkpoint: dict[str, Any]) -> bool:
    """Return whether a loaded checkpoint was saved in `on_train_epoch_end`."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return progress["processed"] > progress["completed"]


def start_resumed(trainer: Trainer) -> None:
    """Undo `begin_resuming` at the start of the training."""
    vars(trainer.fit_loop).pop("_iteration_based_training", None)


def finish_resuming(trainer: Trainer) -> None:
    """Let the end of a resumed epoch step schedulers of a metric, which Lightning skips."""
    trainer.fit_loop._restarting = False


def forget_begun_validation(trainer: Trainer) -> None:
    """Drop the counter that `mark_due_work` set, once that validation begins."""
    trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()


def step_metric_schedulers(trainer: Trainer) -> None:
    """Step the schedulers that follow a metric, for the epoch that ended before the save.

    To be called before the first epoch of the resumed run starts.
    """
    for config in trainer.lr_scheduler_configs:
        value = trainer.callback_metrics.get(config.monitor or "")
        due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
        if config.reduce_on_plateau and due and value is not None:
            config.scheduler.step(value)  # type: ignore[arg-type]


def _mark_epoch_as_read(loops: dict[str, Any]) -> None:
    """Mark the loader as exhausted, so that the resumed run goes straight to the epoch's end."""
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    for loader in loops["state_dict"].get("combined_loader", []):
        loader["finished"] = True
