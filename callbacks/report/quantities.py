"""Tables of quantities with errors, on the screen and in TensorBoard."""

import math
from collections.abc import Iterator

import rich.table
from astropy.table import Table
from rich.markup import escape

ERROR = "_error"


def cells(table: Table) -> Iterator[list[str]]:
    """Yield a line for each quantity of a table: its name with the unit, then `value ± error`.

    Args:
        table: One row an object, whose name is in the first column; `<x>_error` is the error of
            the column `<x>`.
    """
    for name in table.colnames[1:]:
        if name.endswith(ERROR):
            continue
        errors = table[f"{name}{ERROR}"] if f"{name}{ERROR}" in table.colnames else None
        values = [float(value) for value in table[name]]
        spread = [math.nan] * len(values) if errors is None else [float(error) for error in errors]
        unit = f" [{table[name].unit}]".replace(" / ", "/") if table[name].unit else ""
        yield [f"{name}{unit}", *map(with_error, values, spread)]


def with_error(value: float, error: float) -> str:
    """Return `value ± error` to two digits of the error; the value to five digits without one.

    Args:
        value: A dash stands for what is not finite.
        error: Not finite if there is none.
    """
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(error) or error <= 0:
        return f"{value:.5g}"
    digits = min(max(1 - math.floor(math.log10(error)), 0), 8)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def titles(table: Table) -> list[str]:
    """Return the heads of the columns that `cells` fills."""
    name = table.colnames[0]
    return ["", *(f"{name} {value}" for value in table[name])]


def to_rich(name: str, table: Table) -> rich.table.Table:
    """Return a table for the screen, quantities down, objects across.

    Args:
        name: Its title.
        table: See `cells`.
    """
    shown = rich.table.Table(title=name)
    for number, title in enumerate(titles(table)):
        shown.add_column(title, justify="right" if number else "left", no_wrap=True)
    for line in cells(table):
        shown.add_row(*map(escape, line))
    return shown


def to_markdown(table: Table) -> str:
    """Return a table as TensorBoard shows it; see `cells`."""
    heads = titles(table)
    lines = [heads, ["---"] * len(heads), *cells(table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
