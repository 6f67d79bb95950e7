"""Which spectra to train on: cuts on the catalogue."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.files import cache_key
from datamodules.spectra.flag_bits import ASPCAPFLAG_BITS, STARFLAG_BITS, bit_mask, bits_of

Limits = tuple[float | None, float | None] | None


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
        given = {
            "aspcapflag": (self.aspcapflag_bits, ASPCAPFLAG_BITS),
            "starflag": (self.starflag_bits, STARFLAG_BITS),
        }
        return {k: bits_of(*pair, f"data.selection.{k}_bits") for k, pair in given.items()}

    @property
    def excluded(self) -> list[str]:
        """Ids of the stars to leave out, sorted."""
        return read_names(self.exclude, "data.selection.exclude") if self.exclude else []

    def parameters(self) -> dict[str, Any]:
        """Return the cuts as plain values, for the cache and for reports."""
        excluded = {"exclude": cache_key(self.excluded)} if self.exclude else {}
        return {**{k: list(v) for k, v in self.limits.items()}, **self.bits, **excluded}

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
        flags = [name for name, bits in self.bits.items() if bits]
        wanted = {*self.limits, *flags, *(["name"] if self.exclude else [])}
        if wanted - set(catalogue):
            raise ValueError(
                f"data.selection cuts on {sorted(wanted - set(catalogue))}, which the data do not "
                f"have; they have {sorted(catalogue)}"
            )
        size = len(next(iter(catalogue.values())))
        kept, counts = np.ones(size, bool), {"rows": size}
        for name, rejected in self._cuts(catalogue):
            kept &= ~rejected
            counts[name] = int(rejected.sum())
        return kept, {**counts, "selected": int(kept.sum())}

    def _cuts(
        self, catalogue: Mapping[str, NDArray[Any]]
    ) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield each cut's name and the rows that it rejects, (N,)."""
        for name, (low, high) in self.limits.items():
            values = np.asarray(catalogue[name])
            if values.dtype.kind not in "biuf":
                raise ValueError(f"data.selection cuts on {name!r}, which holds no numbers")
            least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
            missing = np.isnan(values)
            yield name, ~((values > least) & (values < most)) & ~missing
            yield f"{name}_missing", missing
        for name, bits in self.bits.items():
            if bits:
                yield name, (np.asarray(catalogue[name]).astype(np.int64) & bit_mask(bits)) != 0
        if self.exclude:
            yield "excluded", np.isin(catalogue["name"], self.excluded)


EVERY_ROW = Selection(None, None, None, None, (), ())
"""No cuts."""


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
