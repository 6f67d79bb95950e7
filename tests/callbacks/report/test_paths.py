from pathlib import Path

from callbacks.report.paths import unused_stem


def test_files_made_before_are_not_replaced(tmp_path: Path) -> None:
    assert unused_stem(tmp_path, "membership", ["fits", "vot"]) == "membership"
    (tmp_path / "membership.vot").touch()
    assert unused_stem(tmp_path, "membership", ["fits", "vot"]) == "membership_1"
    (tmp_path / "membership_1.fits").touch()
    assert unused_stem(tmp_path, "membership", ["fits", "vot"]) == "membership_2"
    assert unused_stem(tmp_path, "membership", ["ecsv"]) == "membership"
