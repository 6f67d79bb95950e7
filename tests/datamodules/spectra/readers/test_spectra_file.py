"""Arrays in one file become spectra: HDF5, npz, prepared stores, a real star."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules import SpectraDataModule
from datamodules.spectra.grid import GRIDS, NUM_PIXELS
from datamodules.spectra.readers.spectra_file import SpectraFile

GRID = GRIDS[7514]


def arrays(num: int = 5, pixels: int = 7514) -> dict[str, np.ndarray]:
    rows = np.arange(num)
    return {
        "name": np.array([f"star {row}".encode() for row in rows]),
        "flux": (rows[:, None] + np.arange(pixels) / 1e4 + 0.5).astype(np.float32),
        "flux_error": np.full((num, pixels), 0.01),
        "pixel_mask": np.zeros((num, pixels), np.int16),
        "teff": np.where(rows == 1, -9999, 4500.0),
        "age": rows.astype(np.int16),
        "starflag": np.int64(1) << 40 + rows,
    }


def write(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
    return path


def prepared(source: SpectraFile, folder: Path, **settings: Any) -> SpectraDataModule:
    settings = {"selection": None, **settings}
    data = SpectraDataModule(source, cache_dir=str(folder / "cache"), **settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz"])
def test_columns_by_name(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"file{suffix}", {**arrays(), "wavelength": GRID.wavelength})
    data = prepared(SpectraFile(str(path)), tmp_path, labels=("teff", "age"))
    stored = data.store.read()
    np.testing.assert_array_equal(stored["flux"], arrays()["flux"])
    assert stored["name"].tolist() == [f"star {row}" for row in range(5)]
    assert stored["starflag"].tolist() == [1 << 40 + row for row in range(5)]
    label = data.columns["label"].numpy()
    np.testing.assert_array_equal(label[:, 0], [4500, np.nan, 4500, 4500, 4500])
    assert label[:, 1].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(stored["logg"]).all()
    assert any("logg is unknown" in text for text in data.provenance()["defaults"])


def test_other_names_and_constants(tmp_path: Path) -> None:
    columns = arrays()
    given = {"f": columns["flux"], "ivar": np.where(columns["flux"] > 1, 1e4, 0)}
    path = write(tmp_path / "file.npz", given)
    source = SpectraFile(
        str(path), {"flux": "f", "flux_ivar": "ivar"}, {"teff": 4800.0, "starflag": 4.0}
    )
    data = prepared(source, tmp_path, min_good_fraction=0.0)
    stored = data.store.read()
    assert stored["teff"].tolist() == [4800] * 5
    assert stored["starflag"].tolist() == [4] * 5
    assert stored["name"].tolist() == [f"file:{row}" for row in range(5)]
    bad = columns["flux"] <= 1
    np.testing.assert_array_equal(stored["pixel_mask"], bad)
    assert np.isinf(stored["flux_error"][bad]).all()
    np.testing.assert_allclose(stored["flux_error"][~bad], 0.01, rtol=1e-6)


@pytest.mark.parametrize(("pixels", "wanted"), [(NUM_PIXELS, None), (NUM_PIXELS, 7214)])
def test_gaps_are_deleted(tmp_path: Path, pixels: int, wanted: int | None) -> None:
    path = write(tmp_path / "file.h5", arrays(pixels=pixels))
    data = prepared(SpectraFile(str(path), grid=wanted), tmp_path)
    grid = GRIDS[wanted or 7514]
    flux = data.store.read(["flux"])["flux"]
    np.testing.assert_array_equal(flux, grid.take(arrays(pixels=pixels)["flux"]))
    np.testing.assert_array_equal(data.wavelength, grid.wavelength)


def test_a_smaller_grid_is_cut_out(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5", arrays())
    data = prepared(SpectraFile(str(path), grid=7214), tmp_path)
    expected = arrays()["flux"][:, GRID.positions_of(GRIDS[7214])]
    np.testing.assert_array_equal(data.store.read(["flux"])["flux"], expected)
    small = write(tmp_path / "small.h5", arrays(pixels=7214))
    with pytest.raises(ValueError, match="not on the grid of 7214"):
        prepared(SpectraFile(str(small), grid=7514), tmp_path)


def test_a_prepared_store_is_read_back(survey: Any, tmp_path: Path) -> None:
    survey().prepare(tmp_path / "store.h5", 0)
    data = prepared(SpectraFile(str(tmp_path / "store.h5")), tmp_path, min_good_fraction=0.0)
    first, second = survey().columns(), data.store.read()
    first["teff_error"][3] = np.nan  # was infinite
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)
    assert data.grid.num_pixels == 7214


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    good = arrays()
    air = GRID.wavelength / 1.00027
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "error": ({k: v for k, v in good.items() if k != "flux_error"}, "needs flux and flux_err"),
        "air": ({**good, "wavelength": air}, "wavelength is not APOGEE's grid in vacuum"),
        "pixels": (arrays(pixels=7000), "flux has 7000 pixels"),
        "cube": ({**good, "flux": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\), not \(N, P\)"),
        "objects": ({**good, "extra": np.array([{}])}, "objects.npz: not an npz of numbers"),
    }
    for name, (columns, message) in cases.items():
        path = write(tmp_path / f"{name}.npz", columns)
        with pytest.raises(ValueError, match=message):
            prepared(SpectraFile(str(path)), tmp_path)
    for suffix in (".h5", ".npz"):
        path = write(tmp_path / f"cut{suffix}", good)
        path.write_bytes(path.read_bytes()[:50000])
        with pytest.raises(ValueError, match=f"cut{suffix}: damaged"):
            prepared(SpectraFile(str(path)), tmp_path)
    path = write(tmp_path / "x.npz", good)
    with pytest.raises(ValueError, match=r"no arrays \['nope'\]; it has"):
        prepared(SpectraFile(str(path), {"flux": "nope"}), tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        prepared(SpectraFile(str(tmp_path / "none.h5")), tmp_path)
    with pytest.raises(ValueError, match=r"must end in .h5, .hdf5 or .npz"):
        SpectraFile("x.csv")
    assert not list((tmp_path / "cache").rglob("*.h5"))


@pytest.mark.parametrize("pixels", [7514, 7214])
def test_a_real_giant(shared_data: Path, tmp_path: Path, pixels: int) -> None:
    folder = shared_data / "spectra/apogee_dr14_star"
    about = json.loads((folder / "apogee_dr14_example.json").read_text())
    source = SpectraFile(
        str(folder / "apogee_dr14_example.npz"),
        {
            "flux": "normalized_flux",
            "flux_error": "normalized_error",
            "pixel_mask": "pixel_or_mask",
            "wavelength": "wavelength_nm",
        },
        {"name": about["object_id"], "teff": about["effective_temperature"]},
        grid=pixels,
        renormalise=True,
    )
    data = prepared(source, tmp_path)
    (batch,) = data.batches("all")
    assert batch["flux"].shape == (1, pixels)
    assert batch["label"][0, 0].item() == pytest.approx(4858.537)
    assert 0.85 < batch["good"].double().mean() < 1
    assert data.names(batch["index"]).tolist() == ["2M08002084+4044415"]
    assert np.median(batch["flux"][batch["good"]]) == pytest.approx(0.985, abs=0.005)


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    good = arrays()
    cases: dict[str, tuple[Any, str]] = {
        "name": (good["name"][:4], r"name has the shape \(4,\), not \(5,\)"),
        "teff": (np.ones(6), r"teff has the shape \(6,\), not \(5,\)"),
        "logg": (np.array(["2.5"] * 5), "logg holds <U3, not numbers"),
        "flux_error": (
            np.ones((5, 7214)),
            r"flux_error has the shape \(5, 7214\), not \(5, 7514\)",
        ),
        "pixel_mask": (np.full((5, 7514), 0.5), "pixel_mask: 0.5 is no sum of bits"),
        "wavelength": (np.array(["a"] * 7514), "wavelength is not APOGEE's grid"),
        "flux": (good["flux"] * 300, "the median flux is .*set data.source.renormalise: true"),
    }
    for name, (values, message) in cases.items():
        path = write(tmp_path / f"{name}.npz", {**good, name: values})
        with pytest.raises(ValueError, match=f"{name}.npz: {message}"):
            prepared(SpectraFile(str(path)), tmp_path)


def test_constants_are_numbers_or_a_name(tmp_path: Path) -> None:
    for name, value in (("flux", 1.0), ("teff", "hot")):
        with pytest.raises(ValueError, match=rf"data.source.values.{name}={value!r}: name columns"):
            SpectraFile("x.h5", values={name: value})
    path = write(tmp_path / "file.npz", arrays())
    data = prepared(SpectraFile(str(path), values={"name": 5.0}), tmp_path)
    assert data.names(np.arange(2)).tolist() == ["5.0", "5.0"]
    empty = write(tmp_path / "empty.npz", {k: v[:0] for k, v in arrays().items()})
    with pytest.raises(ValueError, match=r"empty.npz: flux has the shape \(0, 7514\), not"):
        prepared(SpectraFile(str(empty)), tmp_path)
    assert any("without wavelength" in text for text in data.provenance()["defaults"])


def test_blanks_around_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    names = np.array([b"2M1", b"2M1  ", b" 2M1", b"HD 1", b"HD 1 "])
    path = write(tmp_path / "file.npz", {**arrays(), "name": names})
    data = prepared(SpectraFile(str(path)), tmp_path)
    assert data.names(np.arange(5)).tolist() == ["2M1"] * 3 + ["HD 1"] * 2


def test_a_changed_byte_is_a_value_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    np.savez_compressed(path, **arrays(2))
    whole = path.read_bytes()
    rng, messages = np.random.default_rng(0), []
    for place in rng.integers(0, len(whole), 40).tolist() + list(range(-600, 0, 15)):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(bytes(changed))
        try:
            SpectraFile(str(path)).prepare(tmp_path / "store.h5", 0)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 40
    assert all(str(path) in message for message in messages)
