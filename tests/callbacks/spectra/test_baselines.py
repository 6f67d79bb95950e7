import numpy as np
import pytest

from callbacks.spectra.baselines import fit_baselines, fit_emulator, monomials

NUM, PIXELS, RANK = 300, 80, 4
RNG = np.random.default_rng(0)
LABEL = RNG.normal([4700, 2.4, -0.2], [300, 0.5, 0.3], size=(NUM, 3)).astype(np.float32)
BASIS = np.linalg.qr(RNG.normal(size=(PIXELS, RANK)))[0].T
LATENT = RNG.normal(size=(NUM, RANK)) * [0.5, 0.4, 0.3, 0.2]
COEFFICIENTS = 0.02 * RNG.normal(size=(10, PIXELS))


def spectra(flux: np.ndarray, bad: float = 0.0, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    good = rng.random(flux.shape) >= bad
    return {
        "index": np.arange(len(flux)),
        "flux": np.where(good, flux, np.nan).astype(np.float32),
        "flux_ivar": np.where(good, rng.choice([1e3, 1e4], flux.shape), 0).astype(np.float32),
        "good": good,
        "label": LABEL.copy(),
    }


def from_labels() -> np.ndarray:
    u = (LABEL - LABEL.mean(0)) / LABEL.std(0)
    return 1 + monomials(u, 2) @ COEFFICIENTS


def error(model: np.ndarray, flux: np.ndarray) -> float:
    return float(np.sqrt(np.mean((model - flux) ** 2)))


def test_monomials() -> None:
    found = monomials(np.array([[2.0, 3.0]]), 2)
    assert found.tolist() == [[1, 2, 3, 4, 6, 9]]
    assert monomials(np.array([[np.nan, 3.0]]), 1).tolist() == [[1, 0, 3]]


def test_the_emulator_finds_a_quadratic_from_the_good_pixels() -> None:
    data = spectra(from_labels(), bad=0.2)
    emulator = fit_emulator(data, 2)
    assert error(emulator(LABEL), from_labels()) < 1e-4
    assert fit_emulator(data, 1)(LABEL[:1]).shape == (1, PIXELS)


def test_pixels_without_a_good_star_are_continuum_and_missing_labels_the_mean() -> None:
    data = spectra(from_labels())
    data["good"][:, 5] = False
    data["label"][:20, 1] = np.nan
    emulator = fit_emulator(data, 2)
    assert emulator(LABEL)[:, 5] == pytest.approx(1, abs=1e-3)
    assert np.isfinite(emulator(data["label"])).all()
    clean = fit_emulator({name: values[20:] for name, values in data.items()}, 2)
    assert np.allclose(clean(LABEL), emulator(LABEL))


def test_pca_of_low_rank_spectra_is_exact_without_masks() -> None:
    flux = 1 + LATENT @ BASIS
    for one in fit_baselines(spectra(flux), RANK)[:2]:
        assert error(one.reconstruct(spectra(flux)), flux) < 2e-3, one.subject


def test_weighted_latents_do_not_feel_masks_as_projection_does() -> None:
    flux = 1 + LATENT @ BASIS
    pca, weighted = fit_baselines(spectra(flux), RANK)[:2]
    masked = spectra(flux, bad=0.3)
    assert error(weighted.reconstruct(masked), flux) < 3e-3
    assert error(pca.reconstruct(masked), flux) > 10 * error(weighted.reconstruct(masked), flux)


def test_labels_and_components_of_the_residual() -> None:
    flux = from_labels() + 0.2 * LATENT @ BASIS
    found = {one.subject: one for one in fit_baselines(spectra(flux), RANK)}
    assert list(found) == [
        "baseline/pca",
        "baseline/pca_weighted",
        "baseline/labels",
        "baseline/labels_pca",
        "baseline/labels_pca_weighted",
    ]
    errors = {name: error(one.reconstruct(spectra(flux)), flux) for name, one in found.items()}
    assert errors["baseline/labels_pca"] < 0.2 * errors["baseline/labels"]
    assert errors["baseline/labels_pca"] < errors["baseline/pca"]
    assert found["baseline/labels"].encode(spectra(flux)).shape == (NUM, 0)


def test_masked_values_leave_no_trace() -> None:
    flux = from_labels() + LATENT @ BASIS
    data = spectra(flux, bad=0.2)
    other = {**data, "flux": np.where(data["good"], data["flux"], 1e9).astype(np.float32)}
    for first, second in zip(fit_baselines(data, RANK), fit_baselines(other, RANK), strict=True):
        assert np.array_equal(first.reconstruct(data), second.reconstruct(other)), first.subject


def test_without_labels_only_pca() -> None:
    data = spectra(1 + LATENT @ BASIS)
    data["label"][:] = np.nan
    assert [one.subject for one in fit_baselines(data, RANK)] == [
        "baseline/pca",
        "baseline/pca_weighted",
    ]
