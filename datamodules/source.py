"""Where data come from: simulator, files, archive (no Lightning)."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any


class Source(ABC):
    """Where data come from (simulator, files, archive); a new survey is one new subclass."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return plain values that determine the data; they key the cache and go into reports."""

    @abstractmethod
    def prepare(self, path: Path, seed: int) -> None:
        """Write the row store `path`, atomically.

        Args:
            path: The file to write.
            seed: `data.seed`; anything random is a function of it alone.
        """
