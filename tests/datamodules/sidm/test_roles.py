"""Lists of simulations are disjoint, whole and in order."""

import pytest

from datamodules.sidm.roles import assign_roles

NAMES = ["cdm", "sidm_0.1", "sidm_0.3", "hidden_000", "hidden_001", "calibration_000"]


def roles(**lists: list[str]) -> dict[str, str]:
    order = ("known", "hidden", "calibration", "foreign")
    return assign_roles({role: lists.get(role, []) for role in order}, NAMES, "maps.h5")


def test_known_come_first_in_the_order_given() -> None:
    found = roles(known=["sidm_0.3", "cdm"], hidden=["*"], calibration=["calibration_*"])
    assert list(found) == ["sidm_0.3", "cdm", *(n for n in NAMES if n not in ("sidm_0.3", "cdm"))]
    assert [role for role in found.values()] == ["known"] * 2 + ["hidden"] * 4


def test_an_exact_name_wins_over_every_pattern() -> None:
    found = roles(
        known=["cdm", "sidm_*"], foreign=["sidm_0.1"], hidden=["h*[01]"], calibration=["*"]
    )
    assert found == {
        "cdm": "known",
        "sidm_0.3": "known",
        "hidden_000": "hidden",
        "hidden_001": "hidden",
        "calibration_000": "calibration",
        "sidm_0.1": "foreign",
    }


def test_a_simulation_whose_name_looks_like_a_pattern_can_be_named() -> None:
    assert assign_roles({"known": ["a[1]"]}, ["a[1]"], "x") == {"a[1]": "known"}


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"known": ["cdm"], "hidden": ["cdm", "*"]}, r"'cdm' .* data.known and data.hidden"),
        ({"known": ["cdm", "cdm"], "hidden": ["*"]}, r"'cdm' is listed twice, in data.known;"),
        ({"known": ["CDM"], "hidden": ["*"]}, r"data.known: .* no simulation 'CDM'; maps.h5 has"),
        ({"known": ["cdm", "s*"]}, r"maps.h5: simulations \['hidden_000', .* have no role"),
    ],
)
def test_wrong_lists_are_refused(lists: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roles(**lists)
