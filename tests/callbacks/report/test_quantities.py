import io

import pytest
from astropy.table import Table
from rich.console import Console

from callbacks.report.quantities import cells, to_markdown, to_rich, with_error


@pytest.fixture
def table() -> Table:
    columns = {"cluster": [1, 2], "pm": [1.0, 20.0], "pm_error": [0.012, 0.3], "nu": [2.0, 3.5]}
    return Table(columns, units={"pm": "mas/yr", "pm_error": "mas/yr"})


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (12.3456, 0.0123, "12.346 ± 0.012"),
        (12.3456, 3.21, "12.3 ± 3.2"),
        (1234.5, 67.0, "1234 ± 67"),
        (0.12345678, float("nan"), "0.12346"),
        (2.0, 0.0, "2"),
        (float("nan"), 0.1, "-"),
    ],
)
def test_two_digits_of_the_error_are_shown(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


def test_errors_stand_beside_their_values(table: Table) -> None:
    assert list(cells(table)) == [
        ["pm [mas/yr]", "1.000 ± 0.012", "20.00 ± 0.30"],
        ["nu", "2", "3.5"],
    ]


def test_screen_and_tensorboard_show_the_same(table: Table) -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(to_rich("parameters", table))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("cluster 1", "cluster 2", "1.000 ± 0.012", "pm [mas/yr]"):
        assert text in printed
        assert text in to_markdown(table)
