"""The mixture as a LightningModule: its answer, gaps, resume, two processes, refusals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.run.checkpoints import BestCheckpoint
from datamodules import StarCluster, SyntheticField
from datamodules.clustering.datamodule import ClusteringDataModule
from lightning_modules import ClusterMixture
from lightning_modules.clustering import mixture_passes
from lightning_modules.clustering.mixture.likelihood import OF_CLUSTERS, Parameters
from tests.lightning_modules.clustering import stars
from tests.lightning_modules.clustering.stars import GATED, SMALL, field, fitted
from tests.reliability.processes import Job
from tests.reliability.runs import Run, Saver, assert_same_from

STOPS = ("on_train_start", "on_train_batch_end", "on_validation_start", "on_train_epoch_end")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit to the end."""
    return fitted(tmp_path_factory.mktemp("fit"), BestCheckpoint(), max_epochs=150)


def model_of(run: Run) -> ClusterMixture:
    assert isinstance(run.module, ClusterMixture)
    return run.module


def batch_of(data: ClusteringDataModule) -> dict[str, Tensor]:
    return {name: values[:200] for name, values in data.columns.items()}


def test_members_are_told_from_the_field(run: Run) -> None:
    model, data = model_of(run), run.trainer.datamodule
    found = model.predict_step(data.columns)
    member = data.columns["label"] > 0
    assert found["probability"].shape == (800, 2)
    torch.testing.assert_close(found["probability"].sum(1), torch.ones(800))
    assert ((found["assignment"] == 1) == member).float().mean() > 0.98
    brier = (found["probability"][:, 1] - member.float()).square().mean()
    assert brier < 0.015
    p = model.mixture
    assert float(p.radius) == pytest.approx(0.05, rel=0.3)
    assert float(p.dispersion) == pytest.approx(0.3, rel=0.2)
    assert float(p.error_scale) == pytest.approx(1.0, abs=0.1)
    assert "gain" in model.run_record["stop_reason"]
    assert model.converged


def test_the_passes_end_at_the_highest_likelihood(run: Run) -> None:
    losses = [value for (_, name), value in sorted(run.logged.items()) if name == "train/loss"]
    assert 2 < len(losses) < 150
    last = training_loss(run)
    assert last < losses[0]
    assert last == pytest.approx(min(losses), abs=1e-5)


def training_loss(run: Run) -> float:
    data = run.trainer.datamodule
    training = {name: values[data.rows["train"]] for name, values in data.columns.items()}
    return -float(model_of(run).log_terms(training).logsumexp(1).mean())


def test_a_smaller_tolerance_goes_on_with_a_fit_that_had_ended(run: Run, tmp_path: Path) -> None:
    assert isinstance(run.trainer.checkpoint_callback, BestCheckpoint)
    path = Path(run.trainer.checkpoint_callback.best_model_path)
    ended = run.trainer.current_epoch
    same = fitted(tmp_path, ckpt_path=path, max_epochs=ended + 3)
    assert same.trainer.current_epoch == ended
    finer = SMALL | {"tolerance": 1e-4}
    more = fitted(tmp_path, ckpt_path=path, max_epochs=ended + 3, model=finer)
    assert more.trainer.current_epoch == ended + 3
    assert training_loss(more) < training_loss(run)


def test_a_fit_cut_short_keeps_the_best_pass_not_the_step_to_try_next(tmp_path: Path) -> None:
    cut = fitted(tmp_path, max_epochs=150, max_steps=2 * 3)
    losses = [value for (_, name), value in sorted(cut.logged.items()) if name == "train/loss"]
    assert len(losses) == 2
    assert not model_of(cut).converged
    assert training_loss(cut) == pytest.approx(min(losses), abs=1e-6)


def test_the_best_checkpoint_is_the_end_of_the_fit(run: Run) -> None:
    assert isinstance(run.trainer.checkpoint_callback, BestCheckpoint)
    saved = torch.load(run.trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert saved["astrolit"]["pass"]["converged"]
    for name, value in run.module.state_dict().items():
        assert torch.equal(saved["state_dict"][name], value), name


def test_stars_without_motions_are_judged_by_their_place(run: Run) -> None:
    model, batch = model_of(run), batch_of(run.trainer.datamodule)
    blind = dict(batch)
    blind["features"] = batch["features"].clone()
    blind["features"][:, 2:] = torch.nan
    found = model.predict_step(blind)["probability"][:, 1].double()
    assert found.isfinite().all()
    distance = (batch["features"][:, :2].double() - model.centre[0]).norm(dim=1)
    assert found[distance < 0.03].min() > 0.5
    assert found[distance > 0.3].max() < 0.2


def test_stars_without_motions_train_too(tmp_path: Path) -> None:
    data = field(tmp_path)
    data.prepare_data()
    data.setup()
    gaps = torch.rand(800, generator=torch.Generator().manual_seed(0)) < 0.3
    data.columns["features"][gaps, 2:] = torch.nan
    data.columns["covariance"][gaps, 2:] = torch.nan
    data.columns["covariance"][gaps, :, 2:] = torch.nan
    found = fitted(tmp_path, data=data, max_epochs=20)
    assert int(model_of(found).num_clusters) == 1
    member = data.columns["label"][~gaps] > 0
    answer = model_of(found).predict_step(data.columns)["assignment"][~gaps]
    assert ((answer == 1) == member).float().mean() > 0.97


def test_an_empty_field_is_an_answer(tmp_path: Path) -> None:
    data = ClusteringDataModule(SyntheticField(600, []), cache_dir=str(tmp_path))
    found = fitted(tmp_path, data=data, max_epochs=5)
    answer = model_of(found).predict_step(batch_of(data))
    assert torch.equal(answer["probability"], torch.ones(200, 1))
    assert not answer["assignment"].any()


def test_a_tail_counts_to_its_cluster_and_is_told_apart(run: Run) -> None:
    one = model_of(run).mixture
    model = ClusterMixture(max_clusters=2, tails=True)
    model.load_state_dict(ClusterMixture(max_clusters=2, tails=True).state_dict())
    grid = {name: getattr(run.module, name) for name in ("occupied", "corner", "cell")}
    for name, value in grid.items():
        getattr(model, name).copy_(value)
    model.num_clusters.fill_(2)
    double = {
        name: value.repeat_interleave(2, 0) if name in OF_CLUSTERS else value
        for name, value in one._asdict().items()
    }
    double["weight"] = torch.cat([one.weight[:1] * 0.5, one.weight[:1] * 0.5, one.weight[1:]])
    double["dispersion"] = one.dispersion * torch.tensor([1.0, 4.0])
    model._assign(Parameters(**double))
    batch = batch_of(run.trainer.datamodule)
    found = model.predict_step(batch)
    share = model.log_terms(batch).softmax(1)
    assert found["probability"].shape == (200, 2)
    torch.testing.assert_close(found["probability"][:, 1], share[:, :2].sum(1).float())
    torch.testing.assert_close(found["tail"], share[:, 1].float())


def test_a_fit_resumes_bit_for_bit_wherever_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(tmp_path, *STOPS)
    monkeypatch.setattr(mixture_passes, "GATE_WAITS", math.inf)
    reference = fitted(tmp_path, saver, model=GATED, max_epochs=3)
    gate = model_of(reference).gate
    assert gate is not None
    assert float(gate.table.abs().max()) > 0.1
    assert len(saver.paths) == 1 + 3 * (3 + 1 + 1)
    for path in saver.paths:
        assert_same_from(
            path, reference, fitted(tmp_path, seed=2, model=GATED, ckpt_path=path, max_epochs=3)
        )


def test_two_processes_fit_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_passes, "GATE_WAITS", math.inf)
    alone = fitted(tmp_path, model=GATED)
    job = Job(stars.__file__, str(tmp_path))
    assert job.wait() == 0, job.output
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in alone.module.state_dict().items():
        assert torch.equal(found[0]["state"][name], found[1]["state"][name]), name
        torch.testing.assert_close(found[0]["state"][name], value, rtol=1e-8, atol=1e-8)
    assert found[0]["logged"] == pytest.approx(alone.logged, rel=1e-6)


def test_rows_of_parameters_have_errors_that_hold_the_truth(run: Run) -> None:
    (row,) = model_of(run).parameter_rows()
    truth = {"x": 0.0, "y": 0.0, "parallax": 0.47, "pmra": -12.5, "pmdec": -19.0}
    for name, value in {**truth, "dispersion": 0.3, "weight": 0.375}.items():
        assert abs(row[name] - value) < 4.0 * row[f"{name}_error"], name
    assert 0.3 / 210**0.5 < row["pmra_error"] < 3.0 * 0.3 / 210**0.5  # 210 members are trained on
    logged = {name: value for (_, name), value in run.logged.items()}
    assert logged["cluster_1/pmra_error"] == pytest.approx(row["pmra_error"])


def test_a_checkpoint_predicts_the_same(run: Run, tmp_path: Path) -> None:
    run.trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = ClusterMixture.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    batch = batch_of(run.trainer.datamodule)
    expected = model_of(run).predict_step(batch)
    for name, value in loaded.predict_step(batch).items():
        assert torch.equal(value, expected[name])


def test_a_subclass_adds_physics_to_the_prior(run: Run, tmp_path: Path) -> None:
    class Cold(ClusterMixture):
        """A cluster whose dispersion is known to be 0.1 mas/yr."""

        def log_prior(self, parameters: Parameters) -> Tensor:
            known = ((parameters.dispersion / 0.1).log() / 0.01).square().sum()
            return super().log_prior(parameters) - 0.5 * known

    cold = model_of(fitted(tmp_path, kind=Cold, max_epochs=30))
    assert float(cold.dispersion) == pytest.approx(0.1, rel=0.1)
    assert float(model_of(run).dispersion) > 0.2


def test_refits_give_a_spread_of_parameters_and_memberships(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_validation_start")
    found = fitted(tmp_path, saver, model=SMALL | {"num_bootstrap": 5}, max_epochs=4)
    model, data = model_of(found), found.trainer.datamodule
    (row,) = model.parameter_rows()
    assert 0.2 < row["pmra_bootstrap"] / row["pmra_error"] < 3.0
    sure = model.predict_step(data.columns)
    blind = data.columns | {"features": data.columns["features"].clone()}
    blind["features"][:, 2:] = torch.nan
    unsure = model.predict_step(blind)
    assert sure["probability_error"].shape == sure["probability"].shape
    assert (
        float(sure["probability_error"].mean()) < 1e-3 < float(unsure["probability_error"].mean())
    )
    early = ClusterMixture.load_from_checkpoint(saver.paths[1], weights_only=True)
    assert "probability_error" not in early.predict_step(data.columns)
    assert not [name for name in early.parameter_rows()[0] if name.endswith("_bootstrap")]


def test_it_is_refused_what_it_cannot_use(
    make_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"call Trainer\.fit first"):
        ClusterMixture().predict_step(field_batch(tmp_path))
    loader: Any = DataLoader([field_batch(tmp_path)], batch_size=None)
    with pytest.raises(ValueError, match="not with bare loaders"):
        make_trainer().fit(ClusterMixture(), loader)
    data = field(tmp_path, features=["pmra", "pmdec", "x", "y", "parallax"])
    with pytest.raises(ValueError, match=r"needs data\.features that begin with"):
        make_trainer().fit(ClusterMixture(), data)
    with pytest.raises(ValueError, match=r"trainer\.precision=bf16-true would round"):
        make_trainer(precision="bf16-true").fit(ClusterMixture(), field(tmp_path))
    lean = field_batch(tmp_path)
    lean["covariance"] = lean["covariance"][:, 2:, 2:]
    with pytest.raises(ValueError, match=r"'covariance' of shape \(5, 5\) .* have \(3, 3\)"):
        ClusterMixture()._check_shapes({name: values.shape[1:] for name, values in lean.items()})
    with pytest.raises(ValueError, match="search_stars=0"):
        ClusterMixture(search_stars=0)


def field_batch(folder: Path) -> dict[str, Tensor]:
    data = field(folder)
    data.prepare_data()
    data.setup()
    return batch_of(data)


def test_clusters_of_a_second_catalogue_are_found_from_the_start(tmp_path: Path) -> None:
    """Two clusters: columns in the order in which they were found, each a class of its own."""
    pair = [
        StarCluster(num_stars=400, scale=0.05, parallax=0.5, dispersion=0.3),
        StarCluster(num_stars=150, offset=(0.2, 0.1), parallax=0.2, proper_motion=(1.0, 1.0)),
    ]
    data = ClusteringDataModule(SyntheticField(500, pair), cache_dir=str(tmp_path))
    found = model_of(fitted(tmp_path, data=data, model={"search_stars": 700}, max_epochs=20))
    answer, label = found.predict_step(data.columns)["assignment"], data.columns["label"]
    assert int(found.num_clusters) == 2
    assert (answer == label).float().mean() > 0.98
