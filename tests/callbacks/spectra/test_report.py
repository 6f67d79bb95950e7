import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from matplotlib.image import imread

from callbacks.spectra.latent_drawings import correlation_figure
from callbacks.spectra.latents import earlier_correlations
from callbacks.spectra.outliers import JUNK
from callbacks.spectra.report import SpectraReport
from callbacks.spectra.writer import SpectrumWriter
from datamodules import SpectraDataModule, SyntheticSpectra
from datamodules.spectra.grid import GRIDS
from datamodules.spectra.schema import SCHEMA
from datamodules.spectra.simulate.spectra import true_flux
from datamodules.spectra.source import SpectraSource
from datamodules.store import RowStore
from lightning_modules import SpectraVAE
from tests.callbacks.spectra.two_processes import WithoutFigures

NUM, LATENTS = 256, 6
FIGURES = {
    "chi2",
    "corner_fe_h",
    "corner_logg",
    "corner_o_fe",
    "corner_snr",
    "corner_teff",
    "correlations",
    "examples",
    "kl",
    "recovery_ridge",
    "residuals",
    "traversals",
}
SUBJECTS = ("model", "baseline/pca", "baseline/labels", "baseline/labels_pca", "truth")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SpectraDataModule:
    source = SyntheticSpectra(NUM, grid_pixels=7214, broken_fractions={"missing_labels": 0.03})
    folder = str(tmp_path_factory.mktemp("cache"))
    return SpectraDataModule(source, batch_size=64, test_fraction=0.3, cache_dir=folder)


@pytest.fixture(scope="module")
def model(
    stars: Any, simulated: SpectraDataModule, tmp_path_factory: pytest.TempPathFactory
) -> SpectraVAE:
    torch.manual_seed(0)
    module = SpectraVAE(7214, latent_dim=LATENTS, hidden_dims=[16])
    folder = tmp_path_factory.mktemp("fit")
    stars.trainer(folder, max_epochs=1).fit(module, simulated)
    return module


@pytest.fixture(scope="module")
def run(stars: Any, model: SpectraVAE, simulated: SpectraDataModule, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("run")
    callback = SpectraReport(num_resamples=20, max_boosting=0)
    stars.trainer(folder, callback, tensorboard=True).test(model, simulated, verbose=False)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text())


def test_held_out_stars_only(report: dict[str, Any], simulated: SpectraDataModule) -> None:
    assert report["num_objects"] == len(simulated.rows["test"])
    assert report["method"] == "spectra"
    assert report["split"] == "held_out"


def test_chi2_is_that_of_the_predictions(
    report: dict[str, Any], model: SpectraVAE, simulated: SpectraDataModule
) -> None:
    batch = {name: values[simulated.rows["test"]] for name, values in simulated.columns.items()}
    with torch.inference_mode():
        found = model.predict_step(batch)
    total = (found["chi2"].double() * found["num_good"]).nansum() / found["num_good"].sum()
    assert report["model/chi2"] == pytest.approx(float(total), rel=1e-4)


def test_subjects_are_ordered_as_they_should(report: dict[str, Any]) -> None:
    chi2 = {name: report[f"{name}/chi2"] for name in SUBJECTS}
    assert chi2["truth"] == pytest.approx(1, abs=0.02)
    assert chi2["truth"] < chi2["model"] < chi2["baseline/labels"]
    assert chi2["baseline/labels_pca"] < chi2["baseline/labels"]
    for name in ("baseline/pca", "baseline/labels_pca"):  # the least chi2 of these components
        assert report[f"{name}_weighted/chi2"] < chi2[name]
    for name in SUBJECTS:
        chips = [report[f"{name}/chi2/chip={chip}"] for chip in ("blue", "green", "red")]
        assert min(chips) < chi2[name] < max(chips)
        assert report[f"{name}/chi2_hidden"] > 0.97
    assert report["truth/rms_to_truth"] == 0
    assert report["model/rms_to_truth"] < report["baseline/labels/rms_to_truth"]


def test_masks_and_windows(report: dict[str, Any]) -> None:
    lost = report["data/masked/bit=bad"]
    assert 0.05 < lost < 0.12
    assert (
        report["data/masked_alone/bit=SIG_SKYLINE"] < report["data/masked/bit=SIG_SKYLINE"] < lost
    )
    for element in ("Fe", "Mg", "C"):
        assert report[f"truth/pull_rms/element={element}"] == pytest.approx(1, abs=0.15)
        assert abs(report[f"truth/equivalent_width_bias/element={element}"]) < 20  # mA


def test_latents_and_what_they_know(report: dict[str, Any]) -> None:
    assert report["model/active_units"] == LATENTS
    parts = [report[f"model/kl/latent={number:02d}"] for number in range(LATENTS)]
    assert sum(parts) == pytest.approx(report["model/kl"])
    assert report["model/loss_term/term=kl"] == pytest.approx(report["model/kl"], rel=1e-4)
    normalised = report["model/loss_term_normalised/term=kl"]
    assert normalised == pytest.approx(report["model/kl"] / LATENTS, rel=1e-4)
    pca, own = (
        report[f"{name}/r2_ridge/target=fe_h/inputs=latents"] for name in ("baseline/pca", "model")
    )
    assert pca > 0.8 > own  # the labels are given to the model, which need not keep them
    assert "baseline/labels/r2_ridge/target=true_c_fe/inputs=labels" in report
    for metric in ("mig", "sap", "modularity"):
        assert 0 <= report[f"model/{metric}"] <= 1


def test_junk_is_found(report: dict[str, Any]) -> None:
    found = {junk: report[f"model/outlier_auc/junk={junk}"] for junk in JUNK}
    assert found["shuffled_pixels"] == pytest.approx(1, abs=1e-3)
    assert min(found["cosmic_rays"], found["foreign_labels"]) > 0.7
    assert 0.5 < found["emission_lines"] <= 1  # one line; hard for a model of few stars


def test_counterfactual_is_what_the_simulator_says(
    model: SpectraVAE, simulated: SpectraDataModule
) -> None:
    """The same stars, more metals. Less than in truth, for labels with errors say less (0.8)."""
    rows = simulated.rows["test"]
    batch = {name: values[rows] for name, values in simulated.columns.items()}
    known = batch["label"].isfinite().all(1)
    batch = {name: values[known] for name, values in batch.items()}
    columns = simulated.catalogue(batch["index"]).columns
    factors = {k.removeprefix("true_"): v for k, v in columns.items() if k.startswith("true_")}
    other = factors | {"fe_h": factors["fe_h"] + 0.15}
    simulation = simulated.source.simulation()  # type: ignore[attr-defined]
    expected = true_flux(simulation, other) - true_flux(simulation, factors)
    label = batch["label"] + torch.tensor([0.0, 0.0, 0.15])
    found = (model.counterfactual(batch, label) - model.denoise(batch)).numpy()
    assert np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()) < 0.5
    assert 0.6 < (found * expected).sum() / np.square(expected).sum() < 1.1


def test_tables(run: Path, report: dict[str, Any], simulated: SpectraDataModule) -> None:
    with (run / "latent_correlation.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][-3:] == ["teff", "logg", "fe_h"]
    matrix = np.array([row[1:] for row in rows[1:]], dtype=float)
    assert matrix.shape == (LATENTS + 3, LATENTS + 3)
    block = np.abs(matrix[LATENTS:, :LATENTS]).max()
    assert block == pytest.approx(report["model/label_correlation_max"], abs=1e-5)
    assert (run / "latent_correlation_pca.csv").is_file()
    with (run / "pixels.csv").open() as file:
        pixels = list(csv.DictReader(file))
    assert len(pixels) == 7214
    assert float(pixels[0]["wavelength"]) == pytest.approx(simulated.wavelength[0], abs=1e-3)
    with (run / "stars.csv").open() as file:
        stars = list(csv.DictReader(file))
    assert len(stars) == report["num_objects"]
    median = np.median([float(row["model_chi2"]) for row in stars])
    assert median == pytest.approx(report["model/chi2_star_median"], rel=1e-4)


def test_figures_are_not_blank(run: Path) -> None:
    paths = list((run / "figures").glob("*.png"))
    assert {path.stem for path in paths} == FIGURES
    for path in paths:
        pixels = imread(path)[::3, ::3, :3]
        assert pixels.std() > 0.02, path
        assert len(np.unique(pixels @ np.array([1.0, 256.0, 65536.0]))) > 20, path


def test_earlier_models_are_compared_by_their_tables(
    run: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    labels = ["teff", "logg", "fe_h"]
    ((name, matrix),) = earlier_correlations([str(run)], labels).items()
    assert name == f"{run.parent.name}/{run.name}"
    assert np.array_equal(matrix, matrix.T)
    block = np.abs(matrix[LATENTS:, :LATENTS]).max()
    assert block == pytest.approx(report["model/label_correlation_max"], abs=1e-5)
    with pytest.raises(ValueError, match="compare models of the same labels"):
        earlier_correlations([str(run)], ["teff"])
    with pytest.raises(FileNotFoundError, match="was tested with SpectraReport"):
        earlier_correlations([str(tmp_path)], labels)
    drawn = correlation_figure({"model": matrix, name: matrix}, labels)
    assert [axes.get_title() for axes in drawn.axes[:2]] == ["model", name]


class Survey(SpectraSource):
    """Real data as they come: no truth, no abundances, no labels."""

    def parameters(self) -> dict[str, Any]:
        return {}

    def prepare(self, path: Path, seed: int) -> None:
        rng, num, pixels = np.random.default_rng(0), 90, 7214
        flux = 1 + 0.05 * rng.normal(size=(num, 2)) @ rng.normal(size=(2, pixels))
        columns = {
            "name": np.array([f"2M{row}" for row in range(num)]),
            "flux": (flux + 0.01 * rng.normal(size=flux.shape)).astype(np.float32),
            "flux_error": np.full(flux.shape, 0.01, np.float32),
            "pixel_mask": np.zeros(flux.shape, np.int32),
            "starflag": np.zeros(num, np.int64),
            "aspcapflag": np.zeros(num, np.int64),
        }
        nothing = np.full(num, np.nan, np.float32)
        columns["flux"][3] = np.nan
        columns |= {name: nothing for name in ("teff", "logg", "fe_h", "snr")}
        shared = {"wavelength": GRIDS[pixels].wavelength}
        attributes = {"grid": pixels, "counts": {}, "defaults": []}
        with RowStore.writer(path, SCHEMA, attributes=attributes, shared=shared) as writer:
            writer.append(columns)


def test_real_data_without_labels_truth_or_abundances(
    stars: Any, model: SpectraVAE, tmp_path: Path
) -> None:
    data = SpectraDataModule(Survey(), selection=None, cache_dir=str(tmp_path / "cache"))
    callback = SpectraReport(num_resamples=10)
    stars.trainer(tmp_path, callback).test(model, data, verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model/chi2"] > 1
    assert "baseline/pca/chi2" in report
    assert not any(key.startswith(("truth/", "baseline/labels/")) for key in report)
    assert any("no abundance is known" in note for note in report["notes"])
    assert any("no true factor is known" in note for note in report["notes"])


def test_without_baselines_and_without_a_split(
    stars: Any, model: SpectraVAE, simulated: SpectraDataModule, tmp_path: Path
) -> None:
    source, cache = simulated.source, str(simulated.cache_dir)
    data = SpectraDataModule(source, val_fraction=0, test_fraction=0, cache_dir=cache)
    callback = WithoutFigures(baselines=False, num_resamples=10, max_boosting=0)
    stars.trainer(tmp_path, callback).test(model, data, verbose=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert any("no test split" in note for note in report["notes"])
    assert not any(key.startswith("baseline/") for key in report)
    assert report["num_objects"] == len(data.rows["all"])


def test_a_datamodule_without_spectra_is_refused(
    stars: Any, model: SpectraVAE, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="SpectraDataModule"):
        SpectraReport().on_test_start(stars.trainer(tmp_path), model)


def test_spectra_are_written_as_fits(
    stars: Any, model: SpectraVAE, simulated: SpectraDataModule, tmp_path: Path
) -> None:
    cache = str(simulated.cache_dir)
    data = SpectraDataModule(simulated.source, batch_size=50, cache_dir=cache)
    stars.trainer(tmp_path, SpectrumWriter()).predict(model, data)
    stars.trainer(tmp_path, SpectrumWriter()).predict(model, data)
    assert {path.name for path in tmp_path.glob("*.fits")} == {"spectra.fits", "spectra_1.fits"}
    assert not list(tmp_path.glob(".spectra*"))
    batch = {name: data.columns[name][torch.arange(NUM)] for name in data.columns}
    with torch.inference_mode():
        expected = model.predict_step(batch)
    with fits.open(tmp_path / "spectra.fits") as file:
        file.verify("exception")
        names = ["PRIMARY", "WAVELENGTH", "FLUX", "ERROR", "GOOD", "RECONSTRUCTION", "STARS"]
        assert [hdu.name for hdu in file] == names
        assert file["WAVELENGTH"].header["AIRORVAC"] == "vac"
        assert file["WAVELENGTH"].header["BUNIT"] == "Angstrom"
        assert file["WAVELENGTH"].data == pytest.approx(data.wavelength)
        assert file["PRIMARY"].header["MODEL"] == "SpectraVAE"
        assert "SyntheticSpectra" in "".join(file["PRIMARY"].header["HISTORY"])
        table, good = file["STARS"].data, file["GOOD"].data.astype(bool)
        assert table["index"].tolist() == list(range(NUM))
        assert table["name"].tolist() == data.names(np.arange(NUM)).tolist()
        assert np.allclose(table["latent"], expected["latent"], atol=1e-4)
        assert np.array_equal(table["teff_missing"], expected["label_missing"][:, 0].numpy())
        assert file["STARS"].columns["teff"].unit == "K"
        assert np.array_equal(good, batch["good"].numpy())
        flux = file["FLUX"].data
        assert np.array_equal(flux[good], batch["flux"].numpy()[good])
        assert file["ERROR"].data[good] == pytest.approx(batch["flux_ivar"].numpy()[good] ** -0.5)
        assert np.isnan(file["ERROR"].data[~good]).all()
        reconstruction = expected["reconstruction"].numpy()
        assert np.allclose(file["RECONSTRUCTION"].data, reconstruction, atol=1e-4)


def test_a_model_without_labels_is_written_too(
    stars: Any, simulated: SpectraDataModule, tmp_path: Path
) -> None:
    cache = str(simulated.cache_dir)
    data = SpectraDataModule(simulated.source, labels=(), cache_dir=cache)
    module = SpectraVAE(7214, num_labels=0, latent_dim=3, hidden_dims=[8])
    stars.trainer(tmp_path, SpectrumWriter()).predict(module, data)
    with fits.open(tmp_path / "spectra.fits") as file:
        columns = file["STARS"].columns.names
        assert columns == [
            "name",
            "index",
            "chi2",
            "num_good",
            "outlier_score",
            "latent",
            "latent_std",
        ]
