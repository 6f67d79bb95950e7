"""The configuration files shipped with astrolit, found by name from any folder."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lightning_modules.old_names import renew_class_path
from lightning_modules.runs import find_checkpoint, find_newest

CONFIG = ("-c", "--config")
"""The options that name configurations."""


def config_folder() -> Path:
    """Return the folder of shipped YAML files: inside the wheel, or of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def list_configs() -> dict[str, str]:
    """Return the name of every shipped configuration and what its first line, a comment, says."""
    return {name: _first_line(text) for name, text in _shipped() if not _is_space(text)}


def list_spaces() -> dict[str, str]:
    """Return the name of every shipped space of `astrolit sweep` and what its first line says."""
    return {name: _first_line(text) for name, text in _shipped() if _is_space(text)}


def print_configs() -> None:
    """Print all of these."""
    for kind, found in (("configuration", list_configs()), ("space to sweep", list_spaces())):
        table = Table(kind, "what it is", box=None)
        for name, text in found.items():
            table.add_row(name, text)
        Console().print(table)


def _shipped() -> Iterator[tuple[str, str]]:
    """Yield name and text of every shipped file."""
    folder = config_folder()
    for path in sorted(folder.rglob("*.yaml")):
        yield path.relative_to(folder).as_posix(), path.read_text()


def _first_line(text: str) -> str:
    """Return what a file says of itself."""
    return text.split("\n", 1)[0].lstrip("# ")


def _is_space(text: str) -> bool:
    """Return whether a file is no configuration but a space for `astrolit sweep`."""
    return "\nspace:" in text


def resolve_config(name: str, option: str = "-c") -> str:
    """Return an existing path as it is and a shipped name (clustering/demo.yaml) as a path.

    Args:
        name: A path or a shipped name.
        option: That it was given to, for the message.

    Raises:
        FileNotFoundError: If it is neither.
    """
    if Path(name).is_file() or name.lstrip().startswith("{"):
        return name
    shipped = config_folder() / name
    if shipped.is_file():
        return str(shipped)
    raise FileNotFoundError(
        f"{option} {name}: neither a file in {Path.cwd()} nor a shipped configuration; "
        "`astrolit configs` lists those"
    )


def resolve_paths(words: list[str]) -> tuple[list[str], list[str]]:
    """Replace shipped names after -c and folders after checkpoint options by files.

    `--option=value` of these becomes two words.

    Args:
        words: Of a command line, the subcommand first.

    Returns:
        The words, and the configurations as they were given.
    """
    finders: dict[str, Callable[[str], str]] = {
        **dict.fromkeys(CONFIG, resolve_config),
        "--ckpt_path": find_newest if words[:1] == ["fit"] else find_checkpoint,
        "--init_from": find_checkpoint,
        **dict.fromkeys(("--trainer.callbacks", "--trainer.callbacks+"), renew_class_path),
    }
    split = (word.split("=", 1) if word.partition("=")[0] in finders else [word] for word in words)
    words, configs = [part for parts in split for part in parts], []
    for place, (option, value) in enumerate(pairwise(words), start=1):
        if option in CONFIG:
            configs.append(value)
        if option in finders:
            words[place] = finders[option](value)
    return words, configs


def run_name(configs: list[str], method: str, model: str) -> str:
    """Return the run's folder below runs/: <method>/<first configuration's name, else the model's>.

    Args:
        configs: What the user gave with -c, in order.
        method: Name of the method, such as clustering.
        model: Name of the model's class.
    """
    stem = next((Path(name).stem for name in configs if not name.lstrip().startswith("{")), model)
    return f"{method}/{stem}"


def option_value(words: list[str], name: str) -> str | None:
    """Return the last value of an option, if given, among words of `resolve_paths`."""
    values = [value for option, value in pairwise(words) if option == name]
    return values[-1] if values and values[-1] != "null" else None
