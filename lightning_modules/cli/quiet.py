"""What commands print: without messages that tell a user nothing, or into a file."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

WARNINGS = (
    ".*LeafSpec.*",
    ".*configure_optimizers. will be overridden.*",
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*sync_dist=True.*",  # the means are exact already
)
MESSAGES = (
    ("lightning.pytorch.utilities.rank_zero", "litlogger"),
    # AtomicCheckpointIO always loads with weights_only=True, whatever Lightning says here.
    ("lightning.pytorch.trainer.connectors.checkpoint_connector", "weights_only"),
)
"""Logger to a text in what it says."""
LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")
"""Which of them have handlers depends on what was imported before them."""


def silence_libraries() -> None:
    """Drop these messages for the rest of the process."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for logger, text in MESSAGES:
        _drop(logger, text)


@contextmanager
def output_to(file: TextIO) -> Iterator[None]:
    """Send all that is printed, and what Lightning logs, to a file."""
    loggers = (logging.getLogger(name) for name in LOGGERS)
    handlers = [x for logger in loggers for x in logger.handlers]
    streams = [(x, x.stream) for x in handlers if isinstance(x, logging.StreamHandler)]
    try:
        for handler, _ in streams:
            handler.setStream(file)
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        for handler, stream in streams:
            handler.setStream(stream)


def _drop(logger: str, text: str) -> None:
    """Drop a logger's messages that contain a text."""
    logging.getLogger(logger).addFilter(lambda record: text not in record.getMessage())
