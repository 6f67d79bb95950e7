"""Refits to resampled stars agree with the information where the model is true."""

import pytest
import torch

from lightning_modules.clustering.mixture import scoring
from lightning_modules.clustering.mixture.bootstrap import aligned, refit
from lightning_modules.clustering.mixture.coordinates import coordinates
from lightning_modules.clustering.mixture.description import rows
from lightning_modules.clustering.mixture.likelihood import Integrals
from tests.lightning_modules.clustering.mixture.drawing import draw, mixture, square


def test_the_spread_of_refits_is_the_error_of_the_information() -> None:
    stars, _ = draw(mixture(1), 800)
    sky = square()
    fitted, _ = scoring.climb(mixture(1), stars, sky)
    sums, _ = scoring.information(fitted, Integrals.of(fitted, sky), stars)
    target = scoring.Target.of(fitted, sky, sums, scoring.log_prior)
    found = refit(fitted, stars, None, sky, scoring.log_prior, 16, 0)
    assert torch.equal(found, refit(fitted, stars, None, sky, scoring.log_prior, 16, 0))
    (row,) = rows(fitted, target.curvature, torch.arange(1), lambda p: p.weight[:1], found)
    for name in ("weight", "x", "y", "radius", "parallax", "pmra", "pmdec", "dispersion"):
        assert 0.5 < row[f"{name}_bootstrap"] / row[f"{name}_error"] < 2.0, name


def test_stars_in_chunks_are_climbed_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stars, _ = draw(mixture(1), 500)
    whole, _ = scoring.climb(mixture(1), stars, square(), steps=3)
    monkeypatch.setattr(scoring, "CHUNK", 150)
    parts, _ = scoring.climb(mixture(1), stars, square(), steps=3)
    torch.testing.assert_close(coordinates(parts), coordinates(whole), rtol=1e-8, atol=1e-8)


def test_clusters_that_changed_places_are_told_by_place_and_motion() -> None:
    p = mixture()
    swapped = p._replace(
        weight=p.weight[[1, 0, 2, 3]],
        **{n: getattr(p, n).flip(0) for n in ("centre", "shape", "degrees", "mean", "dispersion")},
    )
    torch.testing.assert_close(coordinates(aligned(swapped, p)), coordinates(p))
    torch.testing.assert_close(coordinates(aligned(p, p)), coordinates(p))
