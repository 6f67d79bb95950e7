"""Files of maps to a row store, block by block: what every reader of real maps does."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datamodules.files import cache_key, fingerprint
from datamodules.sidm.readers.conversion import Conversion
from datamodules.sidm.readers.map_arrays import FileMaps
from datamodules.sidm.readers.map_columns import Columns
from datamodules.sidm.readers.map_table import MapTable
from datamodules.sidm.source import CHANNELS, CHUNK_BYTES, SCHEMA, SIDMSource
from datamodules.source import check_rules
from datamodules.store import RowStore

COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".z", ".fz")


@dataclass
class MapReader(SIDMSource):
    """Maps in files. A subclass opens one file; the rest is here.

    Args:
        path: File, folder or pattern, or a list of those; files are taken in the order of names.
        pixel_scale: Size of a pixel in kpc.
        channels: Names of the channels: `total`, `xray`, `stars`.
    """

    path: str | list[str]
    pixel_scale: float
    channels: list[str] = field(default_factory=lambda: ["total"])
    suffixes: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        known = bool(self.channels) and set(self.channels) <= set(CHANNELS)
        rules = {
            f"pixel_scale={self.pixel_scale} kpc must be positive": self.pixel_scale > 0,
            f"channels={self.channels} must be some of {list(CHANNELS)}, each once": known
            and len(set(self.channels)) == len(self.channels),
        }
        check_rules("data.source", rules)

    @abstractmethod
    def opened(self, path: Path) -> AbstractContextManager[FileMaps]:
        """Open a file; broken ones are refused in one sentence that names it."""

    def read_table(self) -> Columns:
        """Return what a table says of all maps, each (rows,); nothing by default."""
        return {}

    def files(self) -> list[Path]:
        """List the files.

        Raises:
            FileNotFoundError: A path or pattern matches no file.
            ValueError: A file comes twice, or one beside others is compressed.
        """
        found: list[Path] = []
        for text in [self.path] if isinstance(self.path, str) else self.path:
            path = Path(text).expanduser()
            inside = list(path.iterdir() if path.is_dir() else path.parent.glob(path.name))
            of_kind = [x for x in inside if x.is_file() and x.name.lower().endswith(self.suffixes)]
            packed = tuple(kind + ending for kind in self.suffixes for ending in COMPRESSED)
            for file in inside:
                if file.name.lower().endswith(packed):
                    raise ValueError(f"{file}: compressed; decompress it, or move it elsewhere")
            files = [path] if path.is_file() else sorted(of_kind)
            if not files:
                raise FileNotFoundError(
                    f"{text}: no file {' or '.join(self.suffixes)} there; set data.source.path"
                )
            found += files
        places = [file.resolve() for file in found]
        for number, place in enumerate(places):
            if place in places[:number]:
                raise ValueError(f"{found[number]}: data.source.path gives this file twice")
        return found

    def parameters(self) -> dict[str, Any]:
        """Return the settings and the identity (path, size, time) of every file."""
        files = self.files()
        return {**asdict(self), "files": cache_key(map(fingerprint, files))}

    def prepare(self, path: Path, seed: int) -> None:
        """Write the maps to a row store; `seed` has no effect.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is broken or does not fit the others; the message names it.
        """
        settings = {"channels": self.channels, "pixel_scale": self.pixel_scale}
        attributes = {**settings, "source": self.parameters()}
        with RowStore.writer(path, SCHEMA, 1, attributes, chunk_bytes=CHUNK_BYTES) as writer:
            files = self.files()
            table = MapTable(self.read_table(), self.suffixes, str(self.path))
            conversion = Conversion(self.opened, table)
            for file, title in zip(files, titles(files), strict=True):
                for block in conversion.blocks(file, title):
                    writer.append(block)
            conversion.finish()
            writer.attributes.update(
                problems=conversion.problems, defaults=sorted(conversion.defaults)
            )


def titles(files: Sequence[Path]) -> list[str]:
    """Return what maps are named by: the files' stems, with the folder where two are equal."""
    choices = (
        [file.stem for file in files],
        [f"{file.parent.name}/{file.stem}" for file in files],
        [f"{file.parent.name}/{file.name}" for file in files],
    )
    return next((x for x in choices if len({*x}) == len(x)), [str(file) for file in files])
