"""The error-aware head: the background first, the mixture's likelihood in Q, a useful latent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from datamodules import ClusteringDataModule, SyntheticField
from lightning_modules import ClusterMixture, DeepEmbeddedClustering
from lightning_modules.clustering import error_aware
from lightning_modules.clustering.error_aware import weigh, weighted_centres
from lightning_modules.clustering.network import target_distribution
from lightning_modules.clustering.progress import Phase
from tests.lightning_modules.clustering.stars import field

SMALL: dict[str, Any] = {"hidden_dims": [16, 8], "latent_dim": 3, "pretrain_epochs": 2}
HEAD: dict[str, Any] = {
    **SMALL,
    "num_clusters": 2,
    "head": "error_aware",
    "tolerance": 0.0,
    "dropout": 0.0,
}
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False,
}  # fmt: skip


class Fit(NamedTuple):
    """A trained model, its data, and where it was saved one epoch earlier."""

    model: DeepEmbeddedClustering
    data: ClusteringDataModule
    saved: Path


def model(**arguments: Any) -> DeepEmbeddedClustering:
    seed_everything(3)
    return DeepEmbeddedClustering(**(HEAD | {"gamma": 1.0, "cluster_lr": 3e-3} | arguments))


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    folder = tmp_path_factory.mktemp("error_aware")
    data, made = field(folder, 128), model()
    trainer = Trainer(max_epochs=11, **QUIET)
    trainer.fit(made, data)
    trainer.save_checkpoint(folder / "saved.ckpt")
    trainer = Trainer(max_epochs=12, **QUIET)
    trainer.fit(made, data, ckpt_path=folder / "saved.ckpt", weights_only=True)
    return Fit(made.eval(), data, folder / "saved.ckpt")


def predicted(fit: Fit) -> dict[str, Tensor]:
    with torch.no_grad():
        return fit.model.predict_step(fit.data.columns)


def test_q_is_the_likelihood_times_the_kernel() -> None:
    own = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    share = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(weigh(own, share), torch.tensor([[0.3, 0.7], [0.2, 0.8], [0.0, 1]]))


def test_centres_are_means_weighted_by_the_responsibilities() -> None:
    latent = torch.tensor([[0.0, 0.0], [4.0, 2.0], [8.0, 0.0]])
    share = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    expected = torch.tensor([[4 / 3, 2 / 3], [20 / 3, 2 / 3], [0.0, 0.0]])
    torch.testing.assert_close(weighted_centres(latent, share), expected)


def gain_of_more_passes(found: DeepEmbeddedClustering, data: ClusteringDataModule) -> float:
    """Return what a fit of the mixture alone gains in log likelihood from where it is."""
    assert found.mixture is not None
    alone = ClusterMixture(max_clusters=1)
    alone.load_state_dict(found.mixture.state_dict())
    (batch,) = data.batches("train")
    before = alone.log_terms(batch).logsumexp(1).sum().item()
    Trainer(max_epochs=10, **QUIET).fit(alone, data)
    return alone.log_terms(batch).logsumexp(1).sum().item() - before


def test_a_fit_of_the_mixture_alone_finds_no_better_one(fit: Fit) -> None:
    assert gain_of_more_passes(fit.model, fit.data) < 0.3  # of some thousands; 0.1 ends a fit


def test_the_mixture_is_fitted_whole_when_clustering_begins_in_the_last_epoch(
    tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    data, late = field(tmp_path, 128), model()
    assert late.mixture is not None
    late.mixture.search_stars = 200  # of 560, so that the passes have something to do
    make_trainer(3).fit(late, data)
    assert late.mixture.converged
    assert gain_of_more_passes(late, data) < 0.3


def test_a_mixture_that_does_not_converge_is_told(
    tmp_path: Path, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_aware, "MAX_PASSES", 1)
    data = ClusteringDataModule(SyntheticField(150, []), cache_dir=str(tmp_path), batch_size=64)
    with pytest.warns(UserWarning, match="did not converge in 1 passes"):
        make_trainer(3).fit(model(), data)


def test_the_background_is_column_0_and_members_are_found_without_labels(fit: Fit) -> None:
    prediction, label = predicted(fit), fit.data.columns["label"]
    assert prediction["probability"].shape == (800, 2)
    assert (fit.model.field_column, model(head="student_t").field_column) == (0, None)
    torch.testing.assert_close(prediction["probability"].sum(1), torch.ones(800))
    assert (prediction["assignment"] == label).float().mean() > 0.97


def test_the_latent_alone_learns_to_separate_the_members(fit: Fit) -> None:
    prediction, label = predicted(fit), fit.data.columns["label"]
    with torch.no_grad():
        own = fit.model.own_memberships(prediction["latent"], 2)
    assert (own.argmax(1) == label).float().mean() > 0.93
    start = torch.cdist(prediction["latent"], fit.model.centres).argmin(1)
    assert torch.equal(start, own.argmax(1))


def test_p_is_the_sharpened_q_not_the_sharpened_t(fit: Fit) -> None:
    columns = fit.data.columns
    prediction = predicted(fit)
    with torch.no_grad():
        found = fit.model.target(prediction["latent"], columns)
    expected = target_distribution(prediction["probability"], frequency=fit.model.frequency)
    torch.testing.assert_close(found, expected)
    training = prediction["probability"][fit.data.rows["train"]].sum(0)
    torch.testing.assert_close(fit.model.frequency, training, rtol=0.05, atol=0.0)


def test_a_checkpoint_holds_the_mixture_and_a_resumed_run_keeps_it(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the mixture was fitted again")

    monkeypatch.setattr(ClusterMixture, "on_fit_start", refuse)
    resumed = model()
    trainer = Trainer(max_epochs=12, **QUIET)
    trainer.fit(resumed, fit.data, ckpt_path=fit.saved, weights_only=True)
    assert resumed.progress.phase is Phase.CLUSTERING
    expected = fit.model.state_dict()
    assert all(torch.equal(values, expected[k]) for k, values in resumed.state_dict().items())


def test_a_field_without_clusters_is_all_background(
    tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    data = ClusteringDataModule(SyntheticField(150, []), cache_dir=str(tmp_path), batch_size=64)
    empty = model()
    make_trainer(4).fit(empty, data)
    prediction = empty.eval().predict_step(data.columns)
    assert torch.equal(prediction["probability"], torch.ones(150, 1))


def test_what_does_not_fit_is_refused(tmp_path: Path, make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(ValueError, match="num_clusters=1 must be at least 2"):
        model(num_clusters=1)
    turned = ["pmra", "pmdec", "parallax", "x", "y"]
    data = ClusteringDataModule(SyntheticField(100), features=turned, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"data\.features that begin with"):
        make_trainer(1).fit(model(), data)
    batch = {"index": torch.arange(4), "features": torch.zeros(4, 5)}
    with pytest.raises(ValueError, match="needs 'covariance' in the batch"):
        model().training_step(batch, 0)
