from pathlib import Path

import numpy as np
import pytest

from callbacks.report.bootstrap import Bootstrap
from callbacks.report.scope import Scope
from callbacks.report.table import Report
from callbacks.spectra.fidelity import PixelSums
from callbacks.spectra.latents import (
    add_independence,
    add_prior_match,
    correlation_matrix,
    latent_names,
    write_columns,
)
from callbacks.spectra.predictions import Predictions

NUM = 2000
RNG = np.random.default_rng(5)
NOISE = RNG.normal(size=(NUM, 5))
LABEL = RNG.normal(size=(NUM, 3)) * [300, 0.5, 0.3] + [4700, 2.4, -0.2]


def measure(mean: np.ndarray, std: np.ndarray, label: np.ndarray = LABEL) -> dict:
    found = Predictions("model", {}, PixelSums(2, [slice(0, 2)]), mean, std, mean)
    report = Report("spectra", "held_out", NUM)
    scope = Scope(report, "model", Bootstrap(20))
    add_prior_match(scope, found)
    add_independence(scope, mean, label)
    return report.as_dict()


def test_kl_of_gaussians() -> None:
    mean, std = np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([[1.0, 0.5], [1.0, 0.5]])
    expected = 0.5 * (1 + 0.25 - 1 - np.log(0.25))
    found = Predictions("model", {}, PixelSums(2, [slice(0, 2)]), mean, std)
    assert found.kl == pytest.approx([0, expected])


def test_a_matching_posterior() -> None:
    std = np.full((NUM, 5), 0.6)
    found = measure(0.8 * NOISE, std)
    assert found["model/active_units"] == found["model/informed_units"] == 5
    assert found["model/posterior_collapsed"] == found["model/over_informative"] == 0
    assert abs(found["model/mmd2"]) < 4 * found["model/mmd2_noise"]
    assert found["model/label_correlation_max"] < 4 * found["model/correlation_floor"]
    assert abs(found["model/mutual_information"]) < 0.01
    assert found["model/mutual_information_biased"] > 0.5 * 15 / (2 * NUM)
    assert abs(found["model/total_correlation"]) < 0.01
    assert abs(found["model/hsic"]) < 5 * found["model/hsic_noise"]


def test_collapse_and_excess_are_flagged() -> None:
    dead = measure(1e-3 * NOISE, np.ones((NUM, 5)))
    assert dead["model/active_units"] == 0
    assert dead["model/posterior_collapsed"] == 1
    wild = measure(10 * NOISE, np.full((NUM, 5), 1e-3))
    assert wild["model/over_informative"] == 1
    assert wild["model/mmd2"] > 20 * wild["model/mmd2_noise"]


def test_leaking_labels_are_found_linear_or_not() -> None:
    u = (LABEL - LABEL.mean(0)) / LABEL.std(0)
    linear = np.concatenate([0.6 * u[:, :1] + 0.8 * NOISE[:, :1], NOISE[:, 1:]], 1)
    found = measure(linear, np.full((NUM, 5), 0.1))
    assert found["model/label_correlation_max"] == pytest.approx(0.6, abs=0.05)
    assert found["model/mutual_information"] == pytest.approx(-0.5 * np.log(0.64), abs=0.05)
    bent = np.concatenate([u[:, :1] ** 2, NOISE[:, 1:]], 1)
    found = measure(bent, np.full((NUM, 5), 0.1))
    assert found["model/label_correlation_max"] < 0.1
    assert found["model/hsic"] > 10 * found["model/hsic_noise"]


def test_missing_labels_are_left_out() -> None:
    label = LABEL.copy()
    label[:500, 1] = np.nan
    assert np.isfinite(measure(NOISE, np.full((NUM, 5), 0.1), label)["model/mutual_information"])
    found = measure(NOISE, np.full((NUM, 5), 0.1), np.full_like(LABEL, np.nan))
    assert "model/mutual_information" not in found
    assert "too few" in found["notes"][0]


def test_correlation_matrix_and_its_file(tmp_path: Path) -> None:
    latent = np.concatenate([NOISE[:, :2], np.ones((NUM, 1))], 1)
    matrix = correlation_matrix(latent, LABEL)
    assert matrix.shape == (6, 6)
    assert np.diag(matrix).tolist() == [1] * 6
    assert matrix[2, 3:].tolist() == [0, 0, 0]
    columns = dict(zip([*latent_names(3), "teff", "logg", "fe_h"], matrix, strict=True))
    write_columns(tmp_path / "m.csv", {"name": ["a,b", *"cdefg"], **columns})
    lines = (tmp_path / "m.csv").read_text().splitlines()
    assert lines[0] == "name,z00,z01,z02,teff,logg,fe_h"
    assert lines[1].startswith('"a,b",1,')
    values = np.loadtxt(lines[1:], delimiter=",", usecols=range(1, 7), quotechar='"')
    assert values == pytest.approx(matrix, abs=1e-5)
