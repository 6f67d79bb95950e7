"""Where a run's files go."""

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from lightning.pytorch import Trainer


def log_folder(trainer: Trainer) -> Path:
    """Return the run's log folder, the default root without a logger; collective: on every rank."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def unused_stem(folder: Path, stem: str, suffixes: Sequence[str]) -> str:
    """Return a stem none of whose files exist: `stem`, else `stem_1`, `stem_2`...

    Predictions of other data, or of a longer run, must not replace those made before.

    Args:
        folder: Where the files will be.
        stem: Name without suffix.
        suffixes: Suffixes of the files, without the dot.
    """
    stems = chain([stem], (f"{stem}_{number}" for number in count(1)))
    return next(
        name for name in stems if not any((folder / f"{name}.{end}").exists() for end in suffixes)
    )
