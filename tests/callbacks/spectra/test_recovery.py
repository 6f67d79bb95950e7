import numpy as np
import pytest
import torch

from callbacks.report.bootstrap import Bootstrap
from callbacks.report.scope import Scope
from callbacks.report.table import Report
from callbacks.spectra.drawings import recovery_figure, target_name
from callbacks.spectra.fidelity import PixelSums
from callbacks.spectra.figures import meanings
from callbacks.spectra.latent_drawings import STEPS, changes, make_groups, make_track
from callbacks.spectra.predictions import Predictions
from callbacks.spectra.recovery import (
    RecoveryTargets,
    add_factors,
    add_recovery,
    make_targets,
)

LABELS = ("teff", "logg")
RNG = np.random.default_rng(0)


def catalogue(num: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns, labels and latents: z0 is Mg, z1 is C, z2 noise; Al needs the label too."""
    latent = RNG.normal(size=(num, 3))
    label = np.stack([RNG.normal(4700, 300, num), RNG.normal(2.4, 0.5, num)], 1)
    columns = {
        "teff": label[:, 0],
        "true_mg_fe": 0.1 * latent[:, 0],
        "true_c_fe": 0.2 * latent[:, 1],
        "true_al_fe": 0.1 * latent[:, 0] + (label[:, 0] - 4700) / 3000,
        "true_teff": label[:, 0] + 10 * RNG.normal(size=num),
        "true_sky_velocity": RNG.normal(size=num),
        "true_constant": np.ones(num),
        "mg_fe": RNG.normal(size=num),
        "mg_fe_error": RNG.random(num),
        "snr": RNG.random(num),
        "broken": np.arange(num) % 3,
    }
    return columns, label, latent


def scope(report: Report) -> Scope:
    return Scope(report, "model", Bootstrap(20))


def make(num: int = 600) -> tuple[RecoveryTargets, Predictions]:
    fitted, fitted_label, fitted_latent = catalogue(num)
    scored, scored_label, scored_latent = catalogue(num)
    scored["true_c_fe"][:50] = np.nan
    targets = make_targets(fitted, scored, LABELS, (fitted_label, scored_label))
    pixels = PixelSums(2, [slice(0, 2)])
    return targets, Predictions("model", {}, pixels, scored_latent, None, fitted_latent)


def test_targets_are_labels_truth_and_abundances() -> None:
    targets, _ = make()
    assert targets.abundances == ["true_al_fe", "true_c_fe", "true_mg_fe"]
    assert targets.factors == ["true_al_fe", "true_c_fe", "true_mg_fe", "true_teff"]
    assert not {"snr", "broken", "mg_fe_error", "true_constant"} & set(targets.scored)


def test_measured_abundances_serve_where_there_are_no_true_ones() -> None:
    columns, label, _ = catalogue(100)
    known = {k: v for k, v in columns.items() if not k.startswith("true_")}
    assert make_targets(known, known, LABELS, (label, label)).abundances == ["mg_fe"]
    few = {**known, "mg_fe": np.where(np.arange(100) < 30, 0.1, np.nan)}
    assert make_targets(few, few, LABELS, (label, label)).abundances == []


def test_recovery_with_known_answers() -> None:
    targets, subject = make()
    report = Report("spectra", "held_out", 600)
    add_recovery(scope(report), subject, targets, 600)
    found = report.as_dict()

    def r2(metric: str, target: str, inputs: str) -> float:
        return found[f"model/{metric}/target={target}/inputs={inputs}"]

    assert r2("r2_ridge", "true_mg_fe", "latents") == pytest.approx(1, abs=1e-3)
    assert r2("r2_ridge", "true_c_fe", "latents+labels") == pytest.approx(1, abs=1e-3)
    assert r2("r2_ridge", "teff", "latents") == pytest.approx(0, abs=0.03)
    assert r2("r2_ridge", "true_al_fe", "latents") == pytest.approx(0.5, abs=0.1)
    assert r2("r2_ridge", "true_al_fe", "latents+labels") == pytest.approx(1, abs=1e-3)
    assert r2("r2_boosting", "true_al_fe", "latents+labels") > 0.9
    assert r2("r2_boosting", "logg", "latents") < 0.1
    assert r2("rmse_ridge", "teff", "latents") == pytest.approx(300, rel=0.1)  # K: the mean's own
    assert r2("rmse_ridge", "true_al_fe", "latents") == pytest.approx(0.1, rel=0.1)
    for metric in ("r2_ridge", "r2_boosting"):
        figure = recovery_figure(report, metric)
        assert figure is not None
        alone, both = figure.axes
        shown = [text.get_text() for text in both.get_xticklabels()]
        (points, *_), *_ = both.containers
        place = shown.index("[C/Fe]")
        value = r2(metric, "true_c_fe", "latents+labels")
        assert points.get_xydata()[place] == pytest.approx([place, value])
        assert "log g" in [text.get_text() for text in alone.get_xticklabels()]
    assert "model/r2_ridge/target=teff/inputs=latents+labels" not in found
    labels = [r2("r2_ridge", name, "latents") for name in LABELS]
    assert found["model/label_r2_ridge_max"] == max(labels)
    assert found["model/abundance_r2_ridge_mean"] == pytest.approx(1, abs=1e-3)


def test_missing_labels_do_not_matter_and_trees_can_be_left_out() -> None:
    targets, subject = make()
    targets.scored_label[:10] = np.nan
    report = Report("spectra", "held_out", 600)
    add_recovery(scope(report), subject, targets, 0)
    add_factors(scope(report), subject.latent, targets, False)
    assert not {row.metric for row in report.rows} & {"r2_boosting", "dci_disentanglement"}
    assert all(np.isfinite(row.value) for row in report.rows)


def test_products_of_labels_tell_what_is_quadratic_in_them() -> None:
    columns = []
    for _ in range(2):
        found, label, latent = catalogue(600)
        found["true_o_fe"] = 0.1 * latent[:, 0] + 0.1 * ((label[:, 0] - 4700) / 300) ** 2
        columns.append((found, label, latent))
    (fitted, fitted_label, first), (scored, scored_label, second) = columns
    targets = make_targets(fitted, scored, LABELS, (fitted_label, scored_label))
    report = Report("spectra", "held_out", 600)
    subject = Predictions("model", {}, PixelSums(2, [slice(0, 2)]), second, None, first)
    add_recovery(scope(report), subject, targets, 0)
    found = report.as_dict()
    key = "model/r2_ridge/target=true_o_fe/inputs=latents+"
    assert found[f"{key}label_products"] > 0.99
    assert found[f"{key}labels"] < 0.6


def test_without_labels_latents_alone_tell() -> None:
    fitted, _, first = catalogue(600)
    scored, _, second = catalogue(600)
    targets = make_targets(fitted, scored, (), (np.zeros((600, 0)), np.zeros((600, 0))))
    report = Report("spectra", "held_out", 600)
    subject = Predictions("model", {}, PixelSums(2, [slice(0, 2)]), second, None, first)
    add_recovery(scope(report), subject, targets, 0)
    found = report.as_dict()
    assert found["model/r2_ridge/target=true_mg_fe/inputs=latents"] > 0.99
    assert not any("label_products" in name for name in found)


def test_factors_on_their_own_axes() -> None:
    targets, subject = make(2000)
    report = Report("spectra", "held_out", 2000)
    add_factors(scope(report), subject.latent, targets, True)
    found = report.as_dict()
    assert found["model/mig/factor=true_mg_fe"] > 0.9
    assert found["model/sap/factor=true_c_fe"] > 0.95
    assert found["model/mig/factor=true_teff"] < 0.02
    assert found["model/dci_completeness"] > 0.8  # Al has two causes


def test_meanings_and_names() -> None:
    targets, subject = make()
    assert meanings(subject.latent, targets)[1] == "[C/Fe] (r = +1.00)"
    assert target_name("true_alpha_m") == r"[$\alpha$/M]"
    assert target_name("true_teff") == "true Teff"
    assert target_name("true_continuum_3") == "continuum 3"


def test_groups_and_tracks() -> None:
    values = np.array([3800, 4200, 5600, np.nan] * 30)
    groups, names = make_groups(values, (4000, 5500), "Teff")
    assert groups[:4].tolist() == [0, 1, 2, -1]
    assert names == ["Teff < 4000", "4000 to 5500", "Teff > 5500"]
    groups, _ = make_groups(np.linspace(4100, 5000, 90), (4000, 5500), "Teff")
    assert np.bincount(groups).tolist() == [30, 30, 30]
    fe_h = np.repeat([-0.45, -0.35, -0.25, -0.15, 0.5], 10)
    track = make_track(fe_h[:, None], {"fe_h": fe_h}, "fe_h")
    assert track[:4, 0] == pytest.approx([-0.45, -0.35, -0.25, -0.15])
    assert np.isnan(track[4, 0])


class LinearDecoder:
    """A flux linear in the latents, on top of one of the labels."""

    device = "cpu"
    basis = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])

    def decode(self, latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert (label == torch.tensor([4.0, 5.0])).all()  # the medians of what is known
        return latent @ self.basis + label[:, :1]


def test_traversals_of_a_linear_decoder() -> None:
    latent = np.array([[1.0, 0.0], [3.0, 10.0]])  # of deviations 1 and 5
    label = np.array([[4.0, np.nan], [4.0, 5.0]])
    found = changes(LinearDecoder(), latent, label, np.array([1, 0]))
    steps = np.array(STEPS)[:, None]
    assert found[0] == pytest.approx(steps * [0, 15, 0])
    assert found[1] == pytest.approx(steps * [1, 0, 2])
