"""Readers: every real file as its truth says, units never guessed, bad rows named by line."""

import csv
from pathlib import Path

import numpy as np
import pytest

from datamodules import KMTNetLightCurves, LightCurveFiles, MOALightCurves, OGLELightCurves
from datamodules.microlensing.readers.light_curves import read_light_curve
from datamodules.store import RowStore

OGLE = "2455261.84739 16.352 0.007 4.00 546.0\n2455262.88263 16.361 0.011 4.60 2446.0\n"


@pytest.fixture
def real(shared_data: Path) -> Path:
    folder = shared_data / "microlensing" / "real"
    if not folder.is_dir():
        pytest.skip(f"real light curves are not at {folder}")
    return folder


def quiet_curve(count: int = 40, magnitude: float = 18.0, start: float = 5000.0) -> str:
    rng = np.random.default_rng(0)
    rows = zip(start + np.arange(count), magnitude + 0.01 * rng.standard_normal(count), strict=True)
    return "".join(f"{time:.5f} {mag:.4f} 0.0100\n" for time, mag in rows)


def test_every_real_file_is_what_its_truth_says(real: Path) -> None:
    with (real / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 15
    for row in rows:
        paths = sorted(real.glob(row["path"]))
        assert paths, row["path"]
        for path in paths[:12]:
            if row["unit"] == "difference_flux":
                with pytest.raises(ValueError, match="reference_flux"):
                    read_light_curve(path)
                curve = read_light_curve(path, reference_flux=1e4)
            else:
                curve = read_light_curve(path, unit=row["unit"])
            assert curve.time.dtype == np.float64
            assert (np.diff(curve.time) >= 0).all()
            assert 400 < curve.time[0] < curve.time[-1] < 10000  # JD - 2450000: 1996 to 2023
            assert (curve.error > 0).all()
            first = path.read_text().split()[0]
            if row["time"] == "HJD" and first.startswith("245"):
                assert curve.time.min() <= float(first) - 2450000 <= curve.time.max()


def test_real_events_are_brightest_where_they_were(real: Path) -> None:
    events = {
        "OB120406": ("OB120406/phot.dat", 6141.0, 2.3),
        "OB05390": ("OB05390/*.dat", 3582.7, 3.0),
        "OB170002": ("OB170002/OGLE-2017-BLG-0002.txt", 7793.0, 3.6),
    }
    source = OGLELightCurves({name: str(real / path) for name, (path, _, _) in events.items()})
    for event in source.events():
        _, peak, magnification = events[event.name]
        assert abs(event.time[np.argmax(event.flux)] - peak) < 30
        assert event.flux.max() == pytest.approx(magnification, rel=0.1)
        assert np.median(event.flux[event.time < peak - 200]) == pytest.approx(1.0, abs=0.03)


def test_telescopes_are_merged_in_time_on_one_scale(real: Path) -> None:
    pattern = str(real / "OB05390" / "*.dat")
    (event,) = LightCurveFiles({"OB05390": pattern}, unit="mag").events()
    (ogle,) = OGLELightCurves({"x": str(real / "OB05390" / "OGLE_I.dat")}).events()
    assert len(event.time) > len(ogle.time) + 250
    assert (np.diff(event.time) >= 0).all()
    # The six telescopes agree: neighbours within half a day differ by their errors alone.
    close = (np.diff(event.time) < 0.5) & (event.flux[1:] > 1.1)
    pull = np.diff(event.flux) / np.hypot(event.error[1:], event.error[:-1])
    assert np.median(np.abs(pull[close])) < 1.5
    assert any("errors multiplied" in text for text in event.problems)


def test_folders_are_events_and_files_beside_them_too(real: Path, tmp_path: Path) -> None:
    folder = real / "OGLE_II_MicroLIA"
    source = OGLELightCurves(str(folder))
    assert len(source.files()) == len(list(folder.glob("*.dat")))
    path = tmp_path / "store.h5"
    source.prepare(path, 0)
    store = RowStore(path, "astrolit.microlensing")
    columns, time = store.read(), store.read_shared("time")
    good = columns["good"]
    assert (columns["label"] == -1).all()
    np.testing.assert_array_equal(np.isfinite(columns["flux"]), good)
    np.testing.assert_array_equal(np.isfinite(time), good)
    assert "1.460673.dat" in columns["name"]


def test_pysis_is_read_by_its_header(real: Path) -> None:
    folder = real / "KB180003"
    path = next(folder.glob("KMTA12*.pysis"))
    magnitudes = read_light_curve(path)
    fluxes = read_light_curve(path, unit="difference_flux", reference_flux=3e4)
    assert len(magnitudes.time) > 290
    np.testing.assert_array_equal(fluxes.time, magnitudes.time)
    assert fluxes.flux[0] == pytest.approx(3e4 - 1844.8390)
    (event,) = KMTNetLightCurves({"KB180003": str(folder / "*.pysis")}).events()
    assert len(event.time) > 200


def test_unit_is_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "phot.mag"
    path.write_text(OGLE)
    with pytest.raises(ValueError, match=r"phot\.mag.*data\.source\.unit"):
        read_light_curve(path)
    curve = read_light_curve(path, unit="mag")
    assert curve.flux[1] / curve.flux[0] == pytest.approx(10 ** (-0.4 * 0.009))
    assert curve.error[0] / curve.flux[0] == pytest.approx(0.921 * 0.007, rel=1e-3)
    assert curve.time[0] == pytest.approx(5261.84739, abs=1e-8)


def test_a_difference_flux_needs_its_reference(tmp_path: Path) -> None:
    path = tmp_path / "moa.txt"
    path.write_text("2455000.5 -20.0 5.0\n2455001.5 30.0 5.0\n")
    with pytest.raises(ValueError, match=r"moa\.txt.*reference_flux"):
        read_light_curve(path, unit="difference_flux")
    curve = read_light_curve(path, unit="difference_flux", reference_flux=100.0)
    np.testing.assert_allclose(curve.flux, [80.0, 130.0])
    rows = "".join(f"{2455000.5 + k} {(-1) ** k} 2.0\n" for k in range(20))
    path.write_text(rows)
    (event,) = MOALightCurves(str(path), reference_flux=50.0).events()
    assert event.reference_flux == pytest.approx(50.0)


def test_bad_rows_are_named_by_file_and_line_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "event.dat"
    bad = "5100.5 nan 0.01\n5101.5 99.999 9.999\n5102.5 18.0 -1\n5103.5 oops 0.1\n5104.5 18.0\n"
    path.write_text("# HJD mag err\n" + quiet_curve() + bad)
    curve = read_light_curve(path)
    assert len(curve.time) == 40
    assert [text.split(": ")[0] for text in curve.problems] == [
        f"{path}:{42 + k}" for k in range(5)
    ]
    assert "99.999" in curve.problems[1]
    path.write_text("5100.5 99.999 9.999\n")
    with pytest.raises(ValueError, match="no usable row"):
        read_light_curve(path, unit="mag")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2455000.25 18.0 0.01\n", 5000.25),
        ("5000.25 18.0 0.01\n", 5000.25),
        ("MJD mag err\n54999.75 18.0 0.01\n", 5000.25),
        ("JD,magnitude,mag_err\n2455000.25,18.0,0.01\n", 5000.25),
        ("Tel,HJD(JD'),e_mag,mag,e_mag\nX,5000.25,0.5,18.0,0.01\n", 5000.25),
        (
            "\\KEY = 1\n| JD | RELATIVE_MAGNITUDE | MAGNITUDE_UNCERTAINTY |\n"
            "| days | mag | mag |\n2455000.25 18.0 0.01\n",
            5000.25,
        ),
    ],
)
def test_times_and_headers_are_recognised(tmp_path: Path, text: str, time: float) -> None:
    path = tmp_path / "event.txt"
    path.write_text(text)
    curve = read_light_curve(path, unit="mag")
    assert curve.time[0] == pytest.approx(time, abs=1e-9)
    assert curve.error[0] / curve.flux[0] == pytest.approx(0.00921, rel=1e-3)


def test_columns_in_another_order_and_unknown_times(tmp_path: Path) -> None:
    path = tmp_path / "event.dat"
    path.write_text("18.0 0.01 5000.25\n")
    curve = read_light_curve(path, columns=["mag", "error", "time"])
    assert curve.time[0] == 5000.25
    path.write_text("58000.0 18.0 0.01\n")
    with pytest.raises(ValueError, match="time_zero"):
        read_light_curve(path, unit="mag")
    assert read_light_curve(path, unit="mag", time_zero=2400000.5).time[0] == 8000.5


def test_ecsv_is_read_through_astropy(tmp_path: Path) -> None:
    table = pytest.importorskip("astropy.table").Table(
        {"hjd": [2455000.25, 2455001.25], "flux": [2.0, 3.0], "flux_error": [0.1, 0.1]}
    )
    path = tmp_path / "event.ecsv"
    table.write(path, format="ascii.ecsv")
    np.testing.assert_allclose(read_light_curve(path).flux, [2.0, 3.0])


def test_errors_grow_to_the_scatter_and_two_telescopes_join(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    time = np.sort(rng.uniform(5000.0, 5400.0, 300))
    u = np.hypot((time - 5200.0) / 20.0, 0.3)
    magnification = (u**2 + 2) / (u * np.sqrt(u**2 + 4))
    folder = tmp_path / "events" / "one"
    folder.mkdir(parents=True)
    for name, zero, blend, rows in (("a", 18.0, 0.0, time), ("b", 12.0, 3.0, time[120:200])):
        flux = np.interp(rows, time, magnification) + blend
        scatter = 0.02 * flux
        flux = flux + scatter * rng.standard_normal(len(rows))
        magnitude = zero - 2.5 * np.log10(flux)
        lines = (f"{t:.5f} {m:.5f} 0.01\n" for t, m in zip(rows, magnitude, strict=True))
        (folder / f"{name}.dat").write_text("".join(lines))
    (folder / "README.txt").write_text("not a light curve")
    (event,) = LightCurveFiles(str(tmp_path / "events"), unit="mag", labels={"one": 0}).events()
    assert event.name == "one"
    assert len(event.time) == 380
    residuals = event.flux - np.interp(event.time, time, magnification)
    pull = residuals / event.error
    assert np.std(pull) == pytest.approx(1.0, abs=0.25)
    with pytest.raises(ValueError, match="labels"):
        LightCurveFiles(str(tmp_path / "events"), labels={"two": 1}).files()
    with pytest.raises(FileNotFoundError, match="no such"):
        LightCurveFiles(str(tmp_path / "nowhere")).files()
