"""The 170 known globular clusters of the Milky Way by name, without asking any resolver."""

import csv
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

LONG_PREFIXES = {"messier": "m", "palomar": "pal", "ω": "omega"}


class Globular(NamedTuple):
    """A globular cluster.

    Attributes:
        name: As it is usually written.
        ra: Right ascension of its centre in degrees.
        dec: Declination of its centre in degrees.
        radius: Within which its stars and a field beside them are found, in degrees; at least 0.1.
    """

    name: str
    ra: float
    dec: float
    radius: float


def find_globular(name: str) -> Globular:
    """Return a cluster by one of its names; case, spaces and hyphens do not matter.

    Centres and radii are those published by Vasiliev & Baumgardt 2021 (MNRAS 505, 5978) for the
    clusters of Harris 1996 (2010 edition) and those found since.

    Args:
        name: Such as `NGC 6121`, `M 4`, `47 Tuc` or `Palomar 5`.

    Raises:
        ValueError: If no known cluster has that name.
    """
    known = _known()
    found = known.get(_plain(name))
    if found is None:
        close = get_close_matches(_plain(name), known, n=3, cutoff=0.5)
        near = ", ".join(dict.fromkeys(known[match].name for match in close))
        hint = f"did you mean {near}?" if near else "none is alike:"
        raise ValueError(
            f"data.source.name: no globular cluster '{name}' is known here; {hint} "
            "Else give data.source.ra, dec and radius"
        )
    return found


@cache
def _known() -> dict[str, Globular]:
    """Return the plain form of every name to its cluster."""
    known: dict[str, Globular] = {}
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = (float(row[key]) for key in ("ra", "dec", "radius"))
            cluster = Globular(row["name"], *place)
            names = [row["name"], *filter(None, row["aliases"].split(";"))]
            known |= {_plain(name): cluster for name in names}
    return known


def _plain(name: str) -> str:
    """Return a name without case, spaces, hyphens, leading zeros and long prefixes."""
    plain = re.sub(r"[\s_-]+", "", name).lower()
    for long, short in LONG_PREFIXES.items():
        plain = plain.replace(long, short)
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)
