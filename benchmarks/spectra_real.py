"""Real stars through a model that was trained on simulated giants, from a trained run.

`python benchmarks/spectra_real.py RUN [FOLDER]` prints one JSON object a line: χ² per good pixel of
the real DR14 giant beside a physical fit's on the same pixels, each as it is (the model on the flux
normalised as its training's, the fit on the flux that it was made for) and with a polynomial of
degree 2 or 4 fitted to each chip once more; the outlier score of every star; the AUC of the real M
and L dwarfs against the simulated held-out giants with its bootstrap interval; and where the two
real giants rank among those. Writes `spectra_real.png` into RUN. RUN is the folder of
`fit -c spectra/emulator.yaml`, FOLDER holds the files as in shared/data/spectra. No star was seen
in training; labels are given
where the files have them, else the model's learned default stands in; nothing is cut.
"""

import contextlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from callbacks.metrics.ranking import Ranking, area_under_roc
from callbacks.report.figures import COLOURS, new_figure, render, style
from datamodules import ApStarFiles, ASPCAPStarFiles, SpectraDataModule, SpectraFile
from datamodules.spectra.source import SpectraSource
from lightning_modules import SpectraVAE
from lightning_modules.base import Batch
from lightning_modules.cli.app import make_cli
from lightning_modules.cli.shipped_configs import find_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/spectra"
GIANT = "2M08002084+4044415"
K_GIANT = "2M17334253-1654573"
LABELS = {"teff": "effective_temperature", "logg": "log_surface_gravity", "fe_h": "metallicity"}
COLUMNS = {
    "flux": "normalized_flux",
    "flux_error": "normalized_error",
    "pixel_mask": "pixel_or_mask",
}
RESAMPLES = 2000
WINDOW = (15700.0, 15800.0)
Array = NDArray[Any]


def spectra(source: SpectraSource, cache: str) -> tuple[Batch, list[str], SpectraDataModule]:
    """Return all spectra of a source in one batch, uncut, with their names."""
    data = SpectraDataModule(
        source, selection=None, min_good_fraction=0.0, val_fraction=0, test_fraction=0,
        cache_dir=cache,
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        data.prepare_data()
        data.setup()
    parts = list(data.batches("all"))
    batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return batch, [str(name) for name in data.names(batch["index"])], data


def dr14_giant(folder: Path, grid: int, renormalise: bool) -> SpectraFile:
    """Return the source of the DR14 giant, with its labels."""
    stem = folder / "apogee_dr14_star" / "apogee_dr14_example"
    facts = json.loads(stem.with_suffix(".json").read_text())
    values = {"name": GIANT} | {ours: facts[theirs] for ours, theirs in LABELS.items()}
    return SpectraFile(f"{stem}.npz", COLUMNS, values, grid, renormalise)


def chi2(flux: Array, model: Array, ivar: Array) -> float:
    """Return χ² per pixel with weight."""
    return float((ivar * (flux - model) ** 2).sum() / (ivar > 0).sum())


def with_continuum(
    model: Array, flux: Array, ivar: Array, chips: list[slice], degree: int
) -> Array:
    """Return a model times the polynomial in each chip that fits the flux best."""
    fitted = model.copy()
    for chip in chips:
        x = np.linspace(-1, 1, chip.stop - chip.start)
        terms = np.polynomial.chebyshev.chebvander(x, degree) * model[chip, None]
        root = np.sqrt(ivar[chip])
        solution = np.linalg.lstsq(terms * root[:, None], flux[chip] * root, rcond=None)[0]
        fitted[chip] = terms @ solution
    return fitted


def observed(batch: Batch) -> tuple[Array, Array]:
    """Return flux, 1 where unusable, and inverse variance of the first star."""
    ivar = batch["flux_ivar"][0].double().numpy()
    return np.where(ivar > 0, batch["flux"][0].double().numpy(), 1.0), ivar


def judge_giant(model: SpectraVAE, folder: Path, cache: str) -> tuple[dict[str, Any], Figure]:
    """Return χ² of the DR14 giant by the model and by the physical fit, and a figure."""
    batch, _, data = spectra(dr14_giant(folder, model.num_pixels, True), cache)
    flux, ivar = observed(batch)
    as_made, its_ivar = observed(spectra(dr14_giant(folder, model.num_pixels, False), cache)[0])
    reference = np.load(folder / "apogee_dr14_star" / "apogee_dr14_fit_reference.npz")
    wavelength = 10 * reference["wavelength_nm"]
    physical = np.interp(data.wavelength, wavelength, reference["normalized_model_flux"])
    example = np.load(folder / "apogee_dr14_star" / "apogee_dr14_example.npz")
    their_ivar, their_fit = example["inverse_variance"], reference["normalized_model_flux"]
    ours = model.denoise(batch)[0].double().numpy()
    found: dict[str, Any] = {"benchmark": "spectra/real DR14 giant", "n": int((ivar > 0).sum())}
    found["physical fit chi2, all pixels and errors of its file"] = round(
        chi2(example["normalized_flux"], their_fit, their_ivar), 3
    )
    found["as published"] = round(float(reference["mean_weighted_squared_residual"][0]), 3)
    sides = {"model": (ours, flux, ivar), "physical fit": (physical, as_made, its_ivar)}
    for name, (fit, data_flux, weight) in sides.items():
        found[f"{name} chi2"] = round(chi2(data_flux, fit, weight), 3)
        for degree in (2, 4):
            refitted = with_continuum(fit, data_flux, weight, data.grid.chips, degree)
            key = f"{name} chi2, continuum of degree {degree}"
            found[key] = round(chi2(data_flux, refitted, weight), 3)
    fits = {"model": ours, "physical fit": with_continuum(physical, flux, ivar, data.grid.chips, 4)}
    return found, draw(data.wavelength, flux, ivar, fits)


def draw(wavelength: Array, flux: Array, ivar: Array, fits: dict[str, Array]) -> Figure:
    """Return spectrum and fits in a window, and the residuals everywhere."""
    figure, axes = new_figure(3, 1, panel=(11.0, 2.6))
    bad = ivar == 0
    shown = np.where(bad, np.nan, flux)
    axes[0].plot(wavelength, shown, ".", color="0.35", markersize=3, label="observed")
    for axis, (name, fit), colour in zip(axes[1:], fits.items(), COLOURS, strict=False):
        axes[0].plot(wavelength, fit, color=colour, lw=1.1, label=name)
        axis.plot(wavelength, shown - fit, ".", color=colour, markersize=1.5)
        axis.axhline(0.0, color="0.3", lw=0.8)
        axis.set(ylim=(-0.08, 0.08), ylabel="residual", xlim=wavelength[[0, -1]])
        continuum = "" if name == "model" else ", continuum of degree 4 fitted"
        axis.set_title(f"{name}{continuum}: χ² per pixel {chi2(flux, fit, ivar):.2f}")
    axes[0].set(xlim=WINDOW, ylabel="flux / continuum", title=f"{GIANT}, DR14")
    axes[0].legend(loc="lower right")
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    return figure


def held_out_scores(data: SpectraDataModule, model: SpectraVAE) -> Array:
    """Return the outlier scores of the simulated giants that no training saw."""
    with contextlib.redirect_stdout(sys.stderr):
        data.prepare_data()
        data.setup()
    scores = [model.predict_step(batch)["outlier_score"] for batch in data.batches("test")]
    values = torch.cat(scores).numpy()
    return values[np.isfinite(values)]


def area(dwarfs: Array, giants: Array) -> dict[str, Any]:
    """Return the AUC of dwarfs against giants with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    areas = []
    for draw_again in [False] + [True] * RESAMPLES:
        sides = [rng.choice(x, len(x)) if draw_again else x for x in (dwarfs, giants)]
        positive = np.repeat([True, False], [len(dwarfs), len(giants)])
        areas.append(area_under_roc(Ranking(positive, np.concatenate(sides)).curve()))
    low, high = np.quantile(areas[1:], (0.025, 0.975))
    return {"auc": round(areas[0], 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def main() -> None:
    """Print every line and write the figure."""
    if len(sys.argv) < 2:
        print(f"left out: {Path(__file__).name} needs a trained run", file=sys.stderr)
        return
    run, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    checkpoint = find_checkpoint(str(run))
    config = yaml.safe_load((run / "config.yaml").read_text())
    cli = make_cli({name: config[name] for name in ("data", "model")}, run=False)
    model = SpectraVAE.load_from_checkpoint(checkpoint).eval()
    with torch.inference_mode(), style(), tempfile.TemporaryDirectory() as cache:
        line, figure = judge_giant(model, folder, cache)
        print(json.dumps(line))
        giant, _, _ = spectra(dr14_giant(folder, model.num_pixels, True), cache)
        scores = {GIANT: model.outlier_score(giant)}
        sources = [
            ApStarFiles(
                str(folder / "apStar_dr13" / f"apStar-r6-{K_GIANT}.fits"), model.num_pixels
            ),
            ASPCAPStarFiles(str(folder / "aspcapStar_dr13"), model.num_pixels, renormalise=True),
        ]
        for source in sources:
            batch, names, _ = spectra(source, cache)
            found = model.predict_step(batch)
            for star, name in enumerate(names):
                scores[name] = found["outlier_score"][star : star + 1]
                shown = {key: float(found[key][star]) for key in ("outlier_score", "chi2")}
                label = [None if v != v else round(v, 2) for v in batch["label"][star].tolist()]
                print(json.dumps({"star": name, "label": label, **shown}))
        giants = held_out_scores(cli.datamodule, model)
    values = {name: float(score) for name, score in scores.items()}
    dwarfs = np.array([value for name, value in values.items() if name not in (GIANT, K_GIANT)])
    counts = {"num_dwarfs": len(dwarfs), "num_giants": len(giants)}
    print(json.dumps({"benchmark": "spectra/real dwarfs", **area(dwarfs, giants), **counts}))
    for name in (GIANT, K_GIANT):
        rank = int((giants > values[name]).sum()) + 1
        place = {"rank from the most unusual": rank, "of": len(giants) + 1}
        print(json.dumps({"benchmark": f"spectra/real {name}", "score": values[name], **place}))
    imsave(run / "spectra_real.png", render(figure))


if __name__ == "__main__":
    main()
