"""APOGEE's flags: the names of their bits, and names or numbers of any type as bits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = np.loadtxt(Path(__file__).with_name("flag_bits.csv"), "U40", delimiter=",").tolist()
STARFLAG_BITS, ASPCAPFLAG_BITS, PIXMASK_BITS = (
    {name: int(bit) for flag, bit, name in _ROWS if flag == wanted}
    for wanted in ("STARFLAG", "ASPCAPFLAG", "PIXMASK")
)
"""Names of the bits of STARFLAG, ASPCAPFLAG and APOGEE_PIXMASK, to their numbers."""

_OLD_NAMES = {"METALS": "M_H", "ALPHAFE": "ALPHA_M", "CFE": "C_M", "NFE": "N_M"}
"""Flags that releases before DR13 named otherwise."""


def bits_of(
    wanted: Sequence[int | str], names: Mapping[str, int], where: str, last: int = 62
) -> list[int]:
    """Turn names or numbers of bits into numbers.

    Args:
        wanted: Names, as the survey spells them, or numbers.
        names: Name to number.
        where: The setting, for messages.
        last: The highest bit.

    Raises:
        ValueError: A name is unknown or there is no such bit.
    """
    bits = []
    for bit in wanted:
        if isinstance(bit, str) and bit not in names:
            raise ValueError(f"{where}: no bit is named {bit!r}; the names are {', '.join(names)}")
        number = names[bit] if isinstance(bit, str) else int(bit)
        if not 0 <= number <= last:
            raise ValueError(f"{where}: there is no bit {number}; bits are 0 to {last}")
        bits.append(number)
    return sorted(set(bits))


def bit_mask(bits: list[int]) -> int:
    """Return the integer in which these bits are set."""
    return sum(1 << bit for bit in bits)


def as_bits(values: NDArray[Any], what: str, absent: int = 0) -> NDArray[np.int64]:
    """Return flags of any number type as int64; the sign of a short integer is its highest bit.

    Args:
        values: Integers, booleans, or whole reals.
        what: What they are, for messages.
        absent: What stands for reals that are not finite.

    Raises:
        ValueError: The values are no whole numbers.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, absent)
        fractions = values[values != np.trunc(values)]
        if fractions.size:
            raise ValueError(f"{what}: {fractions[0]:.6g} is no sum of bits; is it another column?")
        return values.astype(np.int64)
    if values.dtype.kind not in "biu":
        raise ValueError(f"{what}: values of type {values.dtype} are no sums of bits")
    wide, size = values.astype(np.int64), 8 * values.dtype.itemsize
    return wide if size == 64 else wide & ((1 << size) - 1)


def flags_of_text(
    texts: NDArray[np.str_], names: Mapping[str, int]
) -> tuple[NDArray[np.int64], set[str]]:
    """Turn the names of flags, between commas, into bits.

    Args:
        texts: Such as `STAR_WARN,COLORTE_WARN`, (N,).
        names: Name to bit.

    Returns:
        Bits, (N,), and the names that are unknown.
    """
    unique, inverse = np.unique(texts, return_inverse=True)
    bits, unknown = np.zeros(len(unique), np.int64), set()
    for place, text in enumerate(unique):
        for word in filter(None, (part.strip() for part in str(text).split(","))):
            stem, _, end = word.rpartition("_")
            current = f"{_OLD_NAMES.get(stem, stem)}_{end}"
            if current in names:
                bits[place] |= 1 << names[current]
            else:
                unknown.add(word)
    return bits[inverse], unknown
