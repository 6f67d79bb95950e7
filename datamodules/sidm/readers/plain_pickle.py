"""Pickles of numpy arrays and plain containers, read without running anything that they name.

A pickle is a program that may call whatever it names. Here it can name only what arrays need, and
even these names stand for functions of our own: numpy's are not safe on forged states (a forged
dtype makes bytes into addresses). Opcodes are checked first, so that no size written in the file
exceeds the file. What comes out is made of arrays of numbers or text, lists, tuples, dicts, sets
and scalars.
"""

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFUSED = {
    "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX",
    "NEXT_BUFFER", "READONLY_BUFFER",
}  # fmt: skip
"""Opcodes that arrays and plain containers need not."""

SIZED = {"FRAME", "PUT", "BINPUT", "LONG_BINPUT"}
"""Opcodes whose number makes the reader set memory aside."""

MEMO = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}

MAX_TUPLES = 50_000
"""Most tuples that are not arguments or states: an array has one, its shape, and a tuple inside
another so often is more than the interpreter can hash."""

_DTYPE = re.compile(r"[biuf][1248]|[SU]\d{1,6}|\?|O8?")


class _Function:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it sets the state of a function")


class _DType:
    """What a pickle says of a dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"dtype {str(code)[:40]!r} is neither numbers nor text")
        self.code = code
        self.order: str = "="

    def __setstate__(self, state: Any) -> None:
        """Take the byte order and refuse all else."""
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
            raise ValueError("a dtype with fields or parts")
        self.order = order

    def array(self, shape: Any, content: Any, order: str = "C") -> np.ndarray[Any, Any]:
        """Return an array of this dtype from its bytes, or from a list if it is of objects."""
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"an array of the shape {shape}")
        if self.code.startswith("O"):
            if not isinstance(content, list) or len(content) != math.prod(shape):
                raise ValueError("an array of objects that are not listed")
            array = np.empty(len(content), object)
            for place, value in enumerate(content):
                array[place] = value
        else:
            array = np.frombuffer(content, np.dtype(self.order + self.code))
        if array.size != math.prod(shape):
            raise ValueError(f"{array.size} values for an array of the shape {shape}")
        return array.reshape(shape, order="F" if order == "F" else "C")


class _Array:
    """An array that a pickle makes empty and then fills; `plain` gives the array itself."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _checked(dtype).array(shape, content, "F" if fortran else "C")


def _checked(dtype: Any) -> _DType:
    """Return a dtype that a pickle gives; refuse what is none."""
    if not isinstance(dtype, _DType):
        raise ValueError("an array without a dtype")
    return dtype


def _empty(*_: Any) -> _Array:
    """Return an array that is filled later."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that pickles of old protocols write as text."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """Return a number or text from its bytes."""
    return _checked(dtype).array((), content).item()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: str = "C") -> Any:
    """Return an array from the bytes that protocol 5 writes."""
    return _checked(dtype).array(shape, content, order)


_ARRAY_CLASS = "numpy.ndarray"
"""Stands for the class, which a pickle names but need not call."""

_ALLOWED: dict[str, Any] = {
    "numpy.dtype": _Function(_DType),
    "numpy.ndarray": _ARRAY_CLASS,
    "_codecs.encode": _Function(_encode),
}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_package}.multiarray._reconstruct"] = _Function(_empty)
    _ALLOWED[f"{_package}.multiarray.scalar"] = _Function(_scalar)
    _ALLOWED[f"{_package}.numeric._frombuffer"] = _Function(_from_buffer)
for _module in ("builtins", "__builtin__"):
    _ALLOWED[f"{_module}.set"] = _Function(set)
    _ALLOWED[f"{_module}.frozenset"] = _Function(frozenset)
    _ALLOWED[f"{_module}.bytes"] = _Function(lambda: b"")  # of old protocols, which write it empty


class _PlainUnpickler(pickle.Unpickler):
    """Knows no other names than those of arrays, each of which is a function of ours."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        if f"{module}.{name}" not in _ALLOWED:
            raise ValueError(f"it names {module}.{name}"[:120])
        return _ALLOWED[f"{module}.{name}"]


def load_plain(path: Path) -> Any:
    """Read a pickle of arrays and plain containers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds or asks for anything else, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set data.source.path")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; fetch it again")
    with path.open("rb") as file:
        try:
            # Of a mapped file nothing is read beyond its end, whatever size an opcode states.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_opcodes(content)
            return _PlainUnpickler(file, encoding="latin1").load()
        except Exception as error:  # a damaged program fails in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"{path}: refused, for it is no whole pickle of numpy arrays and plain containers "
                f"({reason}); convert it to npz where it was made"
            ) from error


def _check_opcodes(content: mmap.mmap) -> None:
    """Refuse opcodes that plain data do not need, sizes beyond the file's, and endless nesting."""
    tuples, before = 0, ""
    for opcode, argument, _ in pickletools.genops(content):  # type: ignore[arg-type]
        if opcode.name in REFUSED:
            raise ValueError(f"it uses the opcode {opcode.name}")
        if opcode.name in SIZED and not 0 <= int(argument or 0) <= len(content):
            raise ValueError(f"{opcode.name} {argument} in a file of {len(content)} bytes")
        if opcode.name in MEMO:
            continue
        tuples += before.startswith("TUPLE") and opcode.name not in ("REDUCE", "BUILD")
        before = opcode.name
        if tuples > MAX_TUPLES:
            raise ValueError(f"it has more than {MAX_TUPLES} tuples")


def plain(value: Any) -> Any:
    """Return the array that an entry of a pickle stands for, or the entry itself."""
    return value.value if isinstance(value, _Array) else value
