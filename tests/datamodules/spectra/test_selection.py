"""Cuts count what they reject; limits are strict; a missing value fails."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.spectra.flag_bits import ASPCAPFLAG_BITS, as_bits
from datamodules.spectra.selection import Selection, describe

CATALOGUE = {
    "snr": np.array([201, 200, 500, 500, 500, 500, 500.0]),
    "teff": np.array([4500, 4500, 4000, np.nan, 4500, 4500, 4500.0]),
    "logg": np.array([2, 2, 2, 2, 3.5, 2, 2.0]),
    "fe_h": np.array([0, 0, 0, 0, 0, 0, -4.0]),
    "aspcapflag": np.array([1 << 7, 0, 0, 0, 0, 1 << 23, 0]),
    "starflag": np.array([1 << 9, 0, 0, 0, 0, 0, 0]),
}


def test_ids_that_are_nobody_s_show() -> None:
    assert describe({"rows": 2, "snr": 0, "excluded": 0, "selected": 2}).endswith("excluded 0")
    assert describe({"rows": 2, "snr": 0, "selected": 2}) == "2 of 2 spectra kept"


def test_bits_of_aspcapflag_are_those_of_the_survey() -> None:
    names = {"SN_WARN": 11, "VSINI_WARN": 14, "TEFF_BAD": 16, "STAR_BAD": 23, "ATMOS_HOLE_BAD": 29}
    assert {name: ASPCAPFLAG_BITS[name] for name in names} == names
    assert len(set(ASPCAPFLAG_BITS.values())) == len(ASPCAPFLAG_BITS) == 31


def test_limits_are_strict_and_a_missing_value_fails() -> None:
    kept, counts = Selection().select(CATALOGUE)
    assert kept.tolist() == [True] + [False] * 6
    expected = {"snr": 1, "teff": 1, "teff_missing": 1, "logg": 1, "fe_h": 1, "aspcapflag": 1}
    assert {name: n for name, n in counts.items() if n} == {**expected, "rows": 7, "selected": 1}
    assert "1 of 7 spectra kept; rejected" in describe(counts)
    assert "teff_missing 1" in describe(counts)


def test_a_cut_that_is_off_rejects_nothing() -> None:
    kept, _ = Selection(teff=None, snr=(None, None)).select(CATALOGUE)
    assert kept.tolist() == [True, True, True, True, False, False, False]
    none = Selection(snr=None, teff=None, logg=None, fe_h=None, aspcapflag_bits=())
    assert none.select(CATALOGUE)[0].all()


@pytest.mark.parametrize("bit", [0, 3, 4])
def test_the_bits_of_starflag(bit: int) -> None:
    flagged = {**CATALOGUE, "starflag": np.full(7, 1 << bit)}
    assert not Selection().select(flagged)[0].any()
    assert Selection(starflag_bits=()).select(flagged)[0].sum() == 1
    named = ("BAD_PIXELS", "VERY_BRIGHT_NEIGHBOR", "LOW_SNR")
    assert Selection(starflag_bits=named).parameters() == Selection().parameters()


def test_further_columns_can_be_cut() -> None:
    extra = {**CATALOGUE, "alpha_m": np.full(7, 0.3)}
    assert Selection(extra={"alpha_m": (0.2, None)}).select(extra)[0].sum() == 1
    assert Selection(extra={"alpha_m": (None, 0.3)}).select(extra)[0].sum() == 0


def test_stars_can_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "bad.txt"
    file.write_text("# chosen by eye\n2M0\n\n2M9  # flare\n")
    named = {**CATALOGUE, "name": np.array([f"2M{row}" for row in range(7)])}
    cut = Selection(exclude=str(file))
    kept, counts = cut.select(named)
    assert not kept.any()
    assert (counts["excluded"], counts["selected"]) == (1, 0)
    first = cut.parameters()
    file.write_text("2M8")
    assert cut.select(named)[0].sum() == 1
    assert cut.parameters() != first
    file.write_text("# nobody")
    with pytest.raises(ValueError, match=r"bad.txt: names no star; set data.selection.exclude"):
        cut.select(named)
    with pytest.raises(FileNotFoundError, match=r"none.txt: no such file"):
        Selection(exclude="none.txt").select(named)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.selection.teff=\[5500, 4000\]: nothing lies"):
        Selection(teff=(5500, 4000))
    with pytest.raises(ValueError, match="aspcapflag_bits: no bit is named 'STAR_AWFUL'"):
        Selection(aspcapflag_bits=("STAR_AWFUL",))
    with pytest.raises(ValueError, match="there is no bit 63"):
        Selection(starflag_bits=(63,))
    with pytest.raises(ValueError, match=r"cuts on \['starflag'\], which the data do not have"):
        Selection().select({k: v for k, v in CATALOGUE.items() if k != "starflag"})


def test_flags_of_any_number_type() -> None:
    assert as_bits(np.array([-(2**31), 5], np.int32), "x").tolist() == [1 << 31, 5]
    assert as_bits(np.array([True, False]), "x").tolist() == [1, 0]
    assert as_bits(np.array([1 << 41, -1]), "x").tolist() == [1 << 41, -1]
    assert as_bits(np.array([np.nan, 8.0]), "x", absent=1).tolist() == [1, 8]
    with pytest.raises(ValueError, match=r"file.fits: STARFLAG: 0.5 is no sum of bits"):
        as_bits(np.array([1.0, 0.5]), "file.fits: STARFLAG")
    with pytest.raises(ValueError, match="values of type <U1 are no sums of bits"):
        as_bits(np.array(["a"]), "file.fits: STARFLAG")


def test_a_cut_on_text_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts on 'name', which holds no numbers"):
        Selection(None, None, None, None, (), (), {"name": (0, 1)}).select(
            {"name": np.array(["2M1"])}
        )
