"""What made a file, as its header says it."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from callbacks.report.table import run_facts, to_plain


def header(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what made the table, as plain values."""
    try:
        release = version("astrolit")
    except PackageNotFoundError:
        release = "not installed"
    facts = to_plain(run_facts(trainer, module))
    assert isinstance(facts, dict)
    facts["checkpoint"] = facts["checkpoint"] or "none: weights in memory"
    facts["seed"] = "not set" if facts["seed"] is None else facts["seed"]
    return {"software": f"astrolit {release}", "model": type(module).__name__, **facts}


def as_text(value: Any) -> str:
    """Return text as it is and nested values as JSON, in ASCII, as FITS wants it."""
    return (
        value.encode("ascii", "backslashreplace").decode()
        if isinstance(value, str)
        else (json.dumps(value))
    )
