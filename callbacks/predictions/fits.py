"""FITS files of predictions: what made them, and images written block by block."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from astropy.io import fits
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from callbacks.report.table import run_facts, to_plain


def header(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what made a file, as plain values.

    Args:
        trainer: Knows the checkpoint and the data.
        module: Made the predictions.
    """
    try:
        release = version("astrolit")
    except PackageNotFoundError:
        release = "not installed"
    facts: dict[str, Any] = to_plain(run_facts(trainer, module))
    facts["checkpoint"] = facts["checkpoint"] or "none: weights in memory"
    facts["seed"] = "not set" if facts["seed"] is None else facts["seed"]
    return {"software": f"astrolit {release}", "model": type(module).__name__, **facts}


def as_text(value: Any) -> str:
    """Return text as it is and nested values as JSON, in ASCII, as FITS wants it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("ascii", "backslashreplace").decode()


def add_facts(target: fits.Header, facts: Mapping[str, Any]) -> None:
    """Say what made a file: in cards what is short, in the history what may be long.

    Args:
        target: Header of an extension.
        facts: Plain values, as of `header`; the lines of a list become comments.
    """
    for key, value in facts.items():
        if key in ("software", "model", "seed"):
            target[key.upper()] = value
        elif isinstance(value, list):
            for line in value:
                target.add_comment(as_text(line))
        else:
            target.add_history(f"{key}: {as_text(value)}")


def append_image(
    path: Path, name: str, text: str, blocks: Iterator[NDArray[Any]], num_rows: int
) -> None:
    """Append an image extension to a FITS file without holding it in memory.

    Args:
        path: The file.
        name: Of the extension.
        text: What it holds.
        blocks: Its rows in order, shape (n, P) each, float32 or uint8.
        num_rows: Rows of all blocks.
    """
    first = next(blocks)
    head = fits.ImageHDU(first[:0], name=name).header
    head["NAXIS"], head["NAXIS1"], head["NAXIS2"] = 2, first.shape[1], num_rows
    head["BITPIX"] = 8 if first.dtype == "uint8" else -32
    head["CONTENT"] = text
    # As text: of a Path astropy looks at the last part only.
    stream = fits.StreamingHDU(str(path), head)
    try:
        for block in chain([first], blocks):
            stream.write(block)
    finally:
        stream.close()
