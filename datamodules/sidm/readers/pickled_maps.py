"""Maps in the pickles of Tregidga, Harvey et al. (2025), by a restricted unpickler."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.sidm.readers.map_arrays import BLOCK, FileMaps
from datamodules.sidm.readers.map_columns import Columns, converted
from datamodules.sidm.readers.map_reader import MapReader
from datamodules.sidm.readers.plain_pickle import load_plain, plain
from datamodules.sidm.source import CHANNELS

KEYS = {
    "label": "cross_section",
    "mass": "log_mass",
    "redshift": "redshift",
    "projection": "projection",
    "BCG_e1": "bcg_e1",
    "BCG_e2": "bcg_e2",
    "xrayConc": "xray_concentration",
    "stellar_frac": "stellar_fraction",
}
"""Keys of the labels to columns of the store; NaN where a file has none."""

DROPPED = 1
"""Channel of files of four that has no name."""

LONGEST = 200
"""Characters of a simulation's name at most, for an array gives all names the longest's room."""


@dataclass
class PickledMaps(MapReader):
    """Pickles of (labels, images), in either order, one simulation a file.

    Images are (N, C, H, W) or (N, H, W), their channels `total`, `xray`, `stars` in this order; of
    four channels the second is left out. Images that were divided by the labels' `norms` (N, C) are
    multiplied back. Labels are a dict of one value, or of N values, a key, or a list of N dicts;
    a dict under `props` counts as part of it. A simulation is named by the key `sim`, else by the
    file's name without its suffix; its cross-section is `label` in cm^2/g, its log10 mass `mass`.

    Only arrays of numbers and text and plain containers are read; nothing in a file is run.

    Args:
        path: Folder of the files, or a file or pattern, or a list of those.
        pixel_scale: Size of a pixel in kpc.
        channels: The channels to keep.
        halo_key: Key of the labels that numbers the halo (maps of one halo share it); without one
            each map is its own halo.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pkl", ".pickle", ".p")

    pixel_scale: float = 20.0
    halo_key: str | None = None

    @contextmanager
    def opened(self, path: Path) -> Iterator[FileMaps]:
        """Read a file; a broken or dangerous one is refused in one sentence that names it."""
        wanted = [*KEYS, "norms", "sim", *([self.halo_key] if self.halo_key else [])]
        labels, images = _pair(load_plain(path), wanted, path)
        pixels, places = self._channels(_image_array(images, path), path)
        count = len(pixels)
        columns = self._columns(labels, count, path)
        norms = _norms(plain(labels.get("norms")), pixels.shape[:2], path)

        def blocks() -> Iterator[NDArray[Any]]:
            for first in range(0, count, BLOCK):
                rows = slice(first, first + BLOCK)
                block = pixels[rows, places]
                yield block if norms is None else block * norms[rows, places, None, None]

        yield FileMaps(count, blocks(), columns)

    def _channels(self, images: NDArray[Any], path: Path) -> tuple[NDArray[Any], list[int]]:
        """Return images of four axes and the places of the channels wanted."""
        pixels = images[:, None] if images.ndim == 3 else images
        if pixels.ndim != 4 or 0 in pixels.shape or pixels.shape[1] > len(CHANNELS) + 1:
            raise ValueError(
                f"{path}: images have the shape {images.shape}, not (maps, up to 4 channels, rows, "
                "columns)"
            )
        places = list(range(pixels.shape[1]))
        if len(places) > len(CHANNELS):
            places.remove(DROPPED)
        there = dict(zip(CHANNELS, places, strict=False))
        if not set(self.channels) <= set(there):
            raise ValueError(
                f"{path}: it has the channels {list(there)}; set data.source.channels to some of "
                f"them, not {self.channels}"
            )
        return pixels, [there[name] for name in self.channels]

    def _columns(self, labels: Mapping[str, Any], count: int, path: Path) -> Columns:
        """Return what the labels say, each (count,)."""
        keys = {**KEYS, **({self.halo_key: "halo"} if self.halo_key else {})}
        if self.halo_key and self.halo_key not in labels:
            raise ValueError(
                f"{path}: no key {self.halo_key!r} in its labels; set data.source.halo_key to one "
                "that they have"
            )
        columns: Columns = {}
        for key, name in keys.items():
            values = _per_map(plain(labels.get(key)), count, f"{path}: {key}")
            columns[name] = converted(name, values, f"{path}: {key}")
        names = _per_map(plain(labels.get("sim")), count, f"{path}: sim")
        named = [name if isinstance(name, str) else path.stem for name in names]
        if max(map(len, named)) > LONGEST:
            raise ValueError(f"{path}: sim is longer than {LONGEST} characters; mend the file")
        columns["simulation"] = converted("simulation", np.array(named), f"{path}: sim")
        return columns


def _pair(content: Any, wanted: Sequence[str], path: Path) -> tuple[dict[str, Any], Any]:
    """Return the wanted labels, those of many maps in lists, and the images of a file."""
    if isinstance(content, list | tuple) and len(content) == 2:
        first, second = (plain(entry) for entry in content)
        for labels, images in ((first, second), (second, first)):
            if isinstance(labels, dict):
                return _chosen(labels, wanted), images
            if isinstance(labels, np.ndarray) and labels.dtype == object:
                labels = labels.ravel().tolist()
            if not isinstance(labels, list | tuple) or not labels:
                continue
            if all(isinstance(entry, dict) for entry in labels):
                return _of_each(labels, images, wanted, path), images
    raise ValueError(
        f"{path}: not a pair of labels (a dict or a list of dicts) and images (an array); convert "
        "it to npz where it was made"
    )


def _of_each(
    labels: Sequence[Any], images: Any, wanted: Sequence[str], path: Path
) -> dict[str, list[Any]]:
    """Return the wanted labels of the maps, each a list; all of a shared dict may be many."""
    count = len(images) if isinstance(images, list | tuple | np.ndarray) else 1
    if len(labels) != count:
        raise ValueError(f"{path}: {len(labels)} labels for {count} images; mend the file")
    each = [_chosen(entry, wanted) for entry in labels]
    keys = [key for key in wanted if any(key in entry for entry in each)]
    return {key: [entry.get(key) for entry in each] for key in keys}


def _chosen(labels: dict[Any, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Return the wanted keys of a dict, those of its `props` first."""
    props = plain(labels.get("props"))
    places = [props, labels] if isinstance(props, dict) else [labels]
    found = {key: next((x for x in places if key in x), None) for key in wanted}
    return {key: place[key] for key, place in found.items() if place is not None}


def _image_array(images: Any, path: Path) -> NDArray[Any]:
    """Return images as one array; a list may not repeat one array to fill the memory."""
    if isinstance(images, list | tuple):
        parts = [plain(image) for image in images]
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        alike = len({array.shape for array in arrays}) == 1 and len(arrays) == len(parts)
        if alike and sum(array.nbytes for array in arrays) <= path.stat().st_size:
            return np.stack(arrays)
    elif isinstance(images, np.ndarray):
        return images
    raise ValueError(f"{path}: its images are no array, nor a list of arrays of one shape")


def _flat(value: Any, where: str) -> list[Any]:
    """Return the entries of an array or a list, single values out of their arrays."""
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is neither a value, an array nor a list; mend the file")
    entries = [plain(entry) for entry in value]
    return [x.item() if isinstance(x, np.ndarray) and x.size == 1 else x for x in entries]


def _per_map(value: Any, count: int, where: str) -> NDArray[Any]:
    """Return one value a map, from one for all or from as many, as objects."""
    single = value is None or isinstance(value, str | int | float)
    entries = [value] * count if single else _flat(value, where)
    if len(entries) == 1:
        entries = entries * count
    if len(entries) != count:
        raise ValueError(f"{where} has {len(entries)} values for {count} maps; mend the file")
    values = np.empty(count, object)
    for number, entry in enumerate(entries):
        values[number] = entry
    return values


def _norms(value: Any, shape: tuple[int, ...], path: Path) -> NDArray[np.float64] | None:
    """Return the factors of the channels of each map, (N, C), or None if there are none."""
    entries = [] if value is None else _flat(value, f"{path}: norms")
    if all(entry is None for entry in entries):
        return None
    found = sum(_length(entry, shape[1]) for entry in entries)
    if found != math.prod(shape):
        raise ValueError(
            f"{path}: {found} norms for images of {shape} (maps, channels); mend the file"
        )
    try:
        return np.array(entries, np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: norms are not numbers ({error}); mend the file") from error


def _length(entry: Any, limit: int) -> int:
    """Return how many numbers an entry of a list holds, 0 for lists in lists."""
    if isinstance(entry, np.ndarray):
        return entry.size
    if not isinstance(entry, list | tuple):
        return 1
    nested = len(entry) <= limit and any(isinstance(x, list | tuple | np.ndarray) for x in entry)
    return 0 if nested else len(entry)
