"""Where data come from: simulator, files, archive (no Lightning)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


class Source(ABC):
    """Where data come from (simulator, files, archive); a new survey is one new subclass."""

    simulated: ClassVar[bool] = False
    """Whether another `data.seed` makes other objects, not another split of the same."""

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


def check_rules(where: str, rules: Mapping[str, bool]) -> None:
    """Refuse settings that break a rule.

    Args:
        where: The setting, for the message.
        rules: What must hold, as a sentence, to whether it does.

    Raises:
        ValueError: Some rules are broken; the message lists them.
    """
    broken = [text for text, holds in rules.items() if not holds]
    if broken:
        raise ValueError(f"{where}: {'; '.join(broken)}")
