"""Which spectra to train on: cuts on the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files import cache_key

Limits = tuple[float | None, float | None] | None

STARFLAG_BITS = {
    "BAD_PIXELS": 0,
    "COMMISSIONING": 1,
    "BRIGHT_NEIGHBOR": 2,
    "VERY_BRIGHT_NEIGHBOR": 3,
    "LOW_SNR": 4,
    "PERSIST_HIGH": 9,
    "PERSIST_MED": 10,
    "PERSIST_LOW": 11,
    "PERSIST_JUMP_POS": 12,
    "PERSIST_JUMP_NEG": 13,
    "SUSPECT_RV_COMBINATION": 16,
    "SUSPECT_BROAD_LINES": 17,
    "BAD_RV_COMBINATION": 18,
    "RV_REJECT": 19,
    "RV_SUSPECT": 20,
    "MULTIPLE_SUSPECT": 21,
    "RV_FAIL": 22,
}
"""Names of the bits of STARFLAG."""

_PARAMETERS = ("TEFF", "LOGG", "VMICRO", "M_H", "ALPHA_M", "C_M", "N_M")
_CHECKS = ("STAR", "CHI2", "COLORTE", "ROTATION", "SN", "SPEC_HOLE", "ATMOS_HOLE", "VSINI")
ASPCAPFLAG_BITS = {
    **{f"{name}_WARN": bit for bit, name in enumerate((*_PARAMETERS, *_CHECKS))},
    **{f"{name}_BAD": bit for bit, name in enumerate((*_PARAMETERS, *_CHECKS), start=16)},
    "NO_ASPCAP_RESULT": 31,
}
"""Names of the bits of ASPCAPFLAG."""


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


@dataclass(frozen=True)
class Selection:
    """Cuts on the catalogue that decide which spectra are used.

    A row passes if every value lies strictly inside its limits and no listed bit is set. A missing
    value fails any limit. The limits are those of the reference: S/N > 200, 4000 K < Teff < 5500 K,
    0 < log g < 3.5, [Fe/H] > -4 and no STAR_BAD (bit 23 of ASPCAPFLAG). The reference uses no bit
    of STARFLAG: to repeat its sample, set `starflag_bits: []`. The default here also rejects
    BAD_PIXELS, VERY_BRIGHT_NEIGHBOR and LOW_SNR (bits 0, 3 and 4), as astroNN's catalogue does.

    Args:
        snr: Lower and upper limit of the signal-to-noise ratio of a pixel; null is no limit.
        teff: Limits of the effective temperature in K.
        logg: Limits of the surface gravity, log10(cm/s^2).
        fe_h: Limits of [Fe/H] in dex.
        aspcapflag_bits: Names or numbers of bits of ASPCAPFLAG that reject a row.
        starflag_bits: Names or numbers of bits of STARFLAG that reject a row.
        extra: Limits of further columns of the store, such as `{alpha_m: [-0.1, 0.5]}`.
        exclude: Text file of ids (APOGEE_ID), one a line, of stars to leave out.
    """

    snr: Limits = (200.0, None)
    teff: Limits = (4000.0, 5500.0)
    logg: Limits = (0.0, 3.5)
    fe_h: Limits = (-4.0, None)
    aspcapflag_bits: tuple[int | str, ...] = (23,)
    starflag_bits: tuple[int | str, ...] = (0, 3, 4)
    extra: dict[str, Limits] | None = None
    exclude: str | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in self.limits.items():
            if low is not None and high is not None and not low < high:
                raise ValueError(f"data.selection.{name}=[{low}, {high}]: nothing lies between")
        self.bits  # noqa: B018  refuses unknown names at once

    @property
    def limits(self) -> dict[str, tuple[float | None, float | None]]:
        """Column to lower and upper limit, where there is any."""
        given = {"snr": self.snr, "teff": self.teff, "logg": self.logg, "fe_h": self.fe_h}
        given.update(self.extra or {})
        return {name: pair for name, pair in given.items() if pair and tuple(pair) != (None, None)}

    @property
    def bits(self) -> dict[str, list[int]]:
        """Column of flags to the bits that reject a row."""
        return {
            "aspcapflag": bits_of(
                self.aspcapflag_bits, ASPCAPFLAG_BITS, "data.selection.aspcapflag_bits"
            ),
            "starflag": bits_of(self.starflag_bits, STARFLAG_BITS, "data.selection.starflag_bits"),
        }

    def parameters(self) -> dict[str, Any]:
        """Return the cuts as plain values, for the cache and for reports."""
        excluded = {} if self.exclude is None else {"exclude": cache_key(self._excluded())}
        return {**{k: list(v) for k, v in self.limits.items()}, **self.bits, **excluded}

    @property
    def columns(self) -> list[str]:
        """Columns of the catalogue that the cuts look at."""
        names = [] if self.exclude is None else ["name"]
        return [*self.limits, *(name for name, bits in self.bits.items() if bits), *names]

    def select(
        self, catalogue: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.bool_], dict[str, int]]:
        """Apply the cuts.

        Args:
            catalogue: Columns, each (N,); with `name` to exclude stars.

        Returns:
            Whether each row passes, (N,); and counts: `rows`, what each cut rejects on its own
            under `<column>`, what it rejects for lack of a value under `<column>_missing`,
            `excluded`, and `selected`.

        Raises:
            ValueError: A cut is on a column that is not there, or not of numbers.
        """
        absent = sorted(set(self.columns) - set(catalogue))
        if absent:
            raise ValueError(
                f"data.selection cuts on {absent}, which the data do not have; they have "
                f"{sorted(catalogue)}"
            )
        size = len(next(iter(catalogue.values())))
        kept, counts = np.ones(size, bool), {"rows": size}
        for name, (low, high) in self.limits.items():
            inside, missing = _inside(name, np.asarray(catalogue[name]), low, high)
            counts[name] = int(np.sum(~inside & ~missing))
            counts[f"{name}_missing"] = int(missing.sum())
            kept &= inside
        for name, bits in self.bits.items():
            if bits:
                bad = (np.asarray(catalogue[name]).astype(np.int64) & bit_mask(bits)) != 0
                counts[name] = int(bad.sum())
                kept &= ~bad
        if self.exclude is not None:
            excluded = np.isin(catalogue["name"], self._excluded())
            counts["excluded"] = int(excluded.sum())
            kept &= ~excluded
        return kept, {**counts, "selected": int(kept.sum())}

    def _excluded(self) -> list[str]:
        """List the ids of stars to leave out, sorted."""
        return read_names(self.exclude, "data.selection.exclude") if self.exclude else []


def _inside(
    name: str, values: NDArray[Any], low: float | None, high: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which values lie strictly inside the limits, and which are missing."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"data.selection cuts on {name!r}, which holds no numbers")
    least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
    return (values > least) & (values < most), np.isnan(values)


def read_names(path: str, where: str) -> list[str]:
    """Read ids of stars, one a line; what follows a # is a remark.

    Args:
        path: The file.
        where: The setting, for messages.

    Returns:
        The ids, sorted, each once.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It names no star.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; set {where}")
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    names = sorted({line for line in lines if line})
    if not names:
        raise ValueError(f"{file}: names no star; set {where}")
    return names


def describe(counts: Mapping[str, int]) -> str:
    """Say in a line what each cut rejects and what is left.

    Args:
        counts: As `Selection.select` gives them, perhaps with more.
    """
    ends = ("rows", "selected", "kept")
    listed = ("excluded", "other_stars")  # also if none: perhaps the wrong ids were given
    shown = {k: n for k, n in counts.items() if k not in ends and (n or k in listed)}
    cuts = [f"{name} {n}" for name, n in shown.items()]
    rejected = f"; rejected (a spectrum may be counted twice): {', '.join(cuts)}" if cuts else ""
    kept = counts.get("kept", counts["selected"])
    return f"{kept} of {counts['rows']} spectra kept{rejected}"
