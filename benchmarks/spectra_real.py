"""Real stars through a model that was trained on simulated giants, from a trained run.

`python benchmarks/spectra_real.py RUN [FOLDER]` prints lines (see `measure.py`): χ² per good pixel
of the real DR14 giant beside a physical fit's on the same pixels, each as it is (the model on the
flux normalised as its training's, the fit on the flux that it was made for) and with a polynomial
of degree 2 or 4 fitted to each chip once more; the outlier score of every star; the AUC of the real
M and L dwarfs against the simulated held-out giants with its bootstrap interval; and where the two
real giants rank among those. Writes `spectra_real.png` into RUN. RUN is the folder of
`fit -c spectra/emulator.yaml`, FOLDER holds the files as in shared/data/spectra. No star was seen
in training; labels are given where the files have them, else the model's learned default stands
in; nothing is cut.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.image import imsave
from measure import auc, left_out, quiet, record, report
from numpy.typing import NDArray

from callbacks.report.figures import COLOURS, new_figure, render, style
from datamodules import ApStarFiles, ASPCAPStarFiles, SpectraDataModule, SpectraFile
from datamodules.spectra.source import SpectraSource
from lightning_modules import SpectraVAE
from lightning_modules.base import Batch
from lightning_modules.cli.app import make_cli
from lightning_modules.runs import find_checkpoint

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/spectra"
GIANT = "2M08002084+4044415"
K_GIANT = "2M17334253-1654573"
LABELS = {"teff": "effective_temperature", "logg": "log_surface_gravity", "fe_h": "metallicity"}
COLUMNS = {
    "flux": "normalized_flux",
    "flux_error": "normalized_error",
    "pixel_mask": "pixel_or_mask",
}
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
    model: Array, flux: Array, ivar: Array, chips: list[slice], degree: int | None
) -> Array:
    """Return a model times the polynomial in each chip that fits the flux best.

    Args:
        model: Flux of the model, shape (P,).
        flux: Observed flux, shape (P,).
        ivar: Its inverse variance, shape (P,).
        chips: Pixels of each chip.
        degree: Of the polynomials; with None the model is left as it is.
    """
    fitted = model.copy()
    for chip in chips if degree is not None else ():
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


def judge_giant(model: SpectraVAE, folder: Path, cache: str) -> Figure:
    """Print χ² of the DR14 giant by the model and by the physical fit; return a figure.

    Args:
        model: The trained one.
        folder: The real spectra.
        cache: Where they are prepared.
    """
    batch, _, data = spectra(dr14_giant(folder, model.num_pixels, True), cache)
    flux, ivar = observed(batch)
    as_made, its_ivar = observed(spectra(dr14_giant(folder, model.num_pixels, False), cache)[0])
    reference = np.load(folder / "apogee_dr14_star" / "apogee_dr14_fit_reference.npz")
    wavelength = 10 * reference["wavelength_nm"]
    physical = np.interp(data.wavelength, wavelength, reference["normalized_model_flux"])
    example = np.load(folder / "apogee_dr14_star" / "apogee_dr14_example.npz")
    their_ivar, their_fit = example["inverse_variance"], reference["normalized_model_flux"]
    ours = model.denoise(batch)[0].double().numpy()
    record(
        "spectra/real DR14 giant, physical fit with all pixels and errors of its file",
        chi2=chi2(example["normalized_flux"], their_fit, their_ivar),
        as_published=float(reference["mean_weighted_squared_residual"][0]),
    )
    chips, count = data.grid.chips, int((ivar > 0).sum())
    for degree in (None, 2, 4):
        values = [
            [chi2(observed_flux, with_continuum(fit, observed_flux, weight, chips, degree), weight)]
            for fit, observed_flux, weight in ((ours, flux, ivar), (physical, as_made, its_ivar))
        ]
        name = "" if degree is None else f", continuum of degree {degree}"
        report(f"spectra/real DR14 giant{name}", "chi2 a pixel", *values, "physical fit", n=count)
    fits = {"model": ours, "physical fit": with_continuum(physical, flux, ivar, chips, 4)}
    return draw(data.wavelength, flux, ivar, fits)


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


def main() -> None:
    """Print every line and write the figure."""
    if len(sys.argv) < 2:
        left_out("a trained run")
        return
    run, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    quiet(threads=None)
    checkpoint = find_checkpoint(str(run))
    config = yaml.safe_load((run / "config.yaml").read_text())
    cli = make_cli({name: config[name] for name in ("data", "model")}, run=False)
    model = SpectraVAE.load_from_checkpoint(checkpoint).eval()
    with torch.inference_mode(), style(), tempfile.TemporaryDirectory() as cache:
        figure = judge_giant(model, folder, cache)
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
                record(f"spectra/real {name}", label=label, **shown)
        giants = held_out_scores(cli.datamodule, model)
    values = {name: float(score) for name, score in scores.items()}
    dwarfs = np.array([value for name, value in values.items() if name not in (GIANT, K_GIANT)])
    counts = {"num_dwarfs": len(dwarfs), "num_giants": len(giants)}
    record("spectra/real dwarfs", **auc(dwarfs, giants), **counts)
    for name in (GIANT, K_GIANT):
        rank = int((giants > values[name]).sum()) + 1
        record(f"spectra/real {name}", score=values[name], rank=rank, of=len(giants) + 1)
    imsave(run / "spectra_real.png", render(figure))


if __name__ == "__main__":
    main()
