r"""Light-curve files as text: named or bare columns, every row with its line (no Lightning).

Read are IPAC tables (`\` keywords, `|` header), CSV, whitespace columns with or without a header
(the last `#` line, or a first row of words), and ECSV through astropy.
"""

from dataclasses import dataclass
from pathlib import Path

from astropy.table import Table

from datamodules.files import read_bytes


@dataclass
class TextTable:
    """The rows of a file as words.

    Attributes:
        path: The file.
        names: Of the columns, or None if the file does not say.
        rows: Words of each row.
        lines: Line of each row, counted from 1.
    """

    path: Path
    names: list[str] | None
    rows: list[list[str]]
    lines: list[int]


def read_text_file(path: Path) -> TextTable:
    """Read a light-curve file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has no rows or is not text.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error}); set data.source.path") from error
    table = _read_ecsv(path, text) if text.startswith("# %ECSV") else _read_lines(path, text)
    if not table.rows:
        raise ValueError(f"{path}: no rows; a light curve has at least time, flux or mag, error")
    return table


def _read_ecsv(path: Path, text: str) -> TextTable:
    """Read an ECSV table; units of magnitude or flux go into the names."""
    try:
        table = Table.read(text.splitlines(), format="ascii.ecsv")
    except Exception as error:  # astropy has many exceptions for a broken file
        raise ValueError(f"{path}: cannot be read as ECSV: {error}") from error
    first = sum(line.startswith("#") for line in text.splitlines()) + 2
    columns = [[str(value) for value in column] for column in table.columns.values()]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return TextTable(path, list(table.colnames), rows, list(range(first, first + len(rows))))


def _read_lines(path: Path, text: str) -> TextTable:
    """Read every other kind line by line."""
    names: list[str] | None = None
    comment: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("\\"):
            continue
        if bare.startswith("|"):
            names = names or [word.strip() for word in bare.strip("|").split("|")]
        elif bare.startswith("#"):
            words = _words(bare.lstrip("# "))
            comment = comment if rows or any(map(_is_number, words)) else words
        elif names is None and not rows and not any(map(_is_number, _words(bare))):
            names = _words(bare)
        else:
            rows.append(_words(bare))
            lines.append(number)
    if names is None and rows and len(comment) == len(rows[0]):
        names = comment
    return TextTable(path, names, rows, lines)


def _words(line: str) -> list[str]:
    """Split a line at commas, or else at white space."""
    return [word.strip() for word in line.split(",")] if "," in line else line.split()


def _is_number(word: str) -> bool:
    """Say whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True
