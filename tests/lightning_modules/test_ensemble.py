"""An ensemble of golden checkpoints answers as they do; one of others as their mean."""

from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

import lightning_modules
from callbacks.clustering.alignment import FieldModule
from datamodules import ClusteringDataModule, SyntheticField
from lightning_modules import BaseModule, Ensemble
from lightning_modules.ensemble import UNTRAINED

SPECTRA = "lightning_modules.SpectraVAE"
GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = {
    "clustering": "DeepEmbeddedClustering",
    "microlensing": "TimeDistributedCNN",
    "spectra": "SpectraVAE",
}


def member(method: str, name: str, change: Callable[[str, Tensor], Tensor] | None = None) -> str:
    """Save a golden model as the command line does, perhaps with other weights; its path."""
    kind = getattr(lightning_modules, MODELS[method])
    model = kind.load_from_checkpoint(GOLDEN / f"{method}.ckpt", weights_only=True)
    state = model.state_dict()
    if change is not None:
        state = {key: change(key, value) for key, value in state.items()}
    taken = {name: model.hparams[name] for name in signature(kind).parameters}
    arguments = {**taken, "_class_path": f"lightning_modules.{MODELS[method]}"}
    checkpoint = {"state_dict": state, "hyper_parameters": arguments}
    torch.save({**checkpoint, "pytorch-lightning_version": "2.6.6"}, name)
    return name


def permuted(key: str, value: Tensor) -> Tensor:
    """Another order of the clusters."""
    return value[[1, 0]] if key in ("centres", "frequency") else value


@pytest.fixture
def golden() -> Callable[[str], dict[str, Any]]:
    return lambda method: torch.load(GOLDEN / f"{method}.pt", weights_only=True)


@pytest.mark.parametrize("method", MODELS)
@torch.no_grad()
def test_twice_the_same_model_is_that_model(
    method: str, golden: Callable[[str], dict[str, Any]]
) -> None:
    path = member(method, "a.ckpt")
    model, saved = Ensemble([path, path]), golden(method)
    model.columns = [[0, 1]] * 2 if method == "clustering" else None
    found = model.predict_step(saved["batch"])
    for name, expected in saved["prediction"].items():
        twice = torch.cat([expected] * 2, 1) if name in ("latent", "latent_std") else expected
        torch.testing.assert_close(found[name], twice, rtol=1e-5, atol=1e-5, equal_nan=True)
    new = found.keys() - saved["prediction"].keys()
    spreads = [name for name in new if name.endswith(("_std", "epistemic"))]
    assert spreads
    for name in spreads:
        if name not in ("latent_std", "probability_std"):
            assert found[name].nan_to_num().abs().max() < 1e-5


def test_a_checkpoint_brings_its_members_along(golden: Callable[[str], dict[str, Any]]) -> None:
    paths = [member("spectra", "a.ckpt"), member("spectra", "b.ckpt", lambda k, x: x.clone())]
    model, batch = Ensemble(paths), golden("spectra")["batch"]
    assert not model.needs_checkpoint
    arguments = dict(model.hparams)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": arguments}, "both.ckpt")
    for path in paths:
        Path(path).unlink()
    checkpoint = torch.load("both.ckpt", weights_only=True)  # plain values
    loaded = Ensemble(**checkpoint["hyper_parameters"])
    loaded.load_state_dict(checkpoint["state_dict"])
    assert loaded.needs_checkpoint
    with torch.no_grad():
        before, after = model.predict_step(batch), loaded.predict_step(batch)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)
        mean, log_variance = loaded.encode(batch)
        assert mean.shape == log_variance.shape == (8, 4)
        decoded = loaded.decode(mean, batch["label"])
        torch.testing.assert_close(decoded, after["reconstruction"], rtol=1e-5, atol=1e-6)
        assert loaded.star_terms(batch)["nll"].shape == (8,)
        torch.testing.assert_close(loaded.outlier_score(batch), after["outlier_score"])


def test_members_that_differ_give_mean_and_spread(golden: Callable[[str], dict[str, Any]]) -> None:
    def other(key: str, value: Tensor) -> Tensor:
        return value + 0.1 if key.startswith("net") and value.is_floating_point() else value

    paths = [member("microlensing", "a.ckpt"), member("microlensing", "b.ckpt", other)]
    model, batch = Ensemble(paths), golden("microlensing")["batch"]
    assert model.classes == ["pspl", "binary"]
    with torch.no_grad():
        found = model.predict_step(batch)
        a, b = (one.predict_step(batch)["final_probability"] for one in model.models)
    torch.testing.assert_close(found["final_probability"], (a + b) / 2)
    torch.testing.assert_close(found["final_probability_std"], (a - b).abs() / 2)
    parts = found["final_aleatoric"] + found["final_epistemic"]
    mean = (a + b) / 2
    torch.testing.assert_close(parts, -(mean * mean.log()).sum(1))
    assert (found["final_epistemic"] > 0).all()


TWO = {"error_draws": 2}


@pytest.fixture(scope="module")
def stars() -> ClusteringDataModule:
    return ClusteringDataModule(SyntheticField(300), batch_size=256)


def quiet_trainer() -> Trainer:
    return Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def test_columns_of_clusterings_are_lined_up_before_a_test(
    stars: ClusteringDataModule, golden: Callable[[str], dict[str, Any]]
) -> None:
    first, second = member("clustering", "a.ckpt"), member("clustering", "b.ckpt", permuted)
    model, alone = Ensemble([first, second]), Ensemble([first])
    with pytest.raises(ValueError, match="not lined up yet"):
        model.predict_step(golden("clustering")["batch"])
    trainer = quiet_trainer()
    said = trainer.predict(model, stars)
    assert model.columns == [[0, 1], [1, 0]] == model.hparams["columns"]
    (expected,) = trainer.predict(alone, stars)[:1]
    for name in ("probability", "assignment"):
        torch.testing.assert_close(said[0][name], expected[name])
    assert said[0]["epistemic"].max() < 1e-5
    assert trainer.test(model, stars, verbose=False) == trainer.test(alone, stars, verbose=False)
    with pytest.raises(ValueError, match=UNTRAINED):
        trainer.fit(model, stars)


def test_draws(stars: ClusteringDataModule) -> None:
    path = member("clustering", "a.ckpt")
    stars.prepare_data()
    stars.setup()
    batch = {name: x[:64] for name, x in stars.columns.items()}
    torch.manual_seed(0)
    with torch.no_grad():
        for draws in ({"dropout_draws": 4}, {"error_draws": 4}, {"dropout_draws": 3} | TWO):
            found = Ensemble([path], **draws).predict_step(batch)
            assert (found["latent_std"] > 0).any(1).float().mean() > 0.5
            assert (found["probability_std"] > 0).any()
            # Errors of measurements are aleatoric: one model, one answer, nothing to disagree on.
            assert bool((found["epistemic"] > 1e-6).any()) == ("dropout_draws" in draws)
            single = Ensemble([path]).predict_step(batch)
            assert (found["aleatoric"] > single["aleatoric"]).any()
        certain = batch | {"covariance": 0 * batch["covariance"]}
        found = Ensemble([path], error_draws=4).predict_step(certain)
        assert found["latent_std"].max() < 1e-6


def test_features_without_the_covariance_are_not_drawn_anew(
    stars: ClusteringDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Ensemble([member("clustering", "a.ckpt")], error_draws=2)
    monkeypatch.setattr(stars, "features", ["parallax", "pmra", "x", "y", "pmdec"])
    with pytest.raises(ValueError, match=r"error_draws=2 needs data\.features that begin with"):
        quiet_trainer().test(model, stars, verbose=False)


class Said(BaseModule):
    """Says what is in its buffers, whatever the objects.

    Args:
        probability: Of each column.
        error: Of the probabilities.
        field_column: The field, if it knows it.
    """

    def __init__(
        self, probability: list[float], error: list[float], field_column: int | None = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.said = torch.tensor([probability]), torch.tensor([error])
        self.field_column = field_column

    def step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        return {"loss": torch.zeros(())}

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        probability, error = (x.expand(len(batch["index"]), -1) for x in self.said)
        answer = {"index": batch["index"], "assignment": probability.argmax(1)}
        return answer | {"probability": probability, "probability_error": error}


def test_deviations_and_the_field_follow_the_columns() -> None:
    def said(*arguments: Any) -> dict[str, Any]:
        names = ("probability", "error", "field_column")
        arguments_of = dict(zip(names, arguments, strict=True))
        return {"class_path": f"{__name__}.Said", "init_args": arguments_of}

    two = said([0.7, 0.3], [0.1, 0.2], 1)
    three = said([0.2, 0.3, 0.5], [0.3, 0.4, 0.0], 0)
    model = Ensemble([two, three], columns=[[1, 0], [0, 1, 0]])
    batch = {"index": torch.arange(2)}
    found = model.predict_step(batch)
    torch.testing.assert_close(found["probability"], torch.tensor([[0.5, 0.5]] * 2))
    own = torch.tensor([(0.2**2 + 0.3**2) / 2, (0.1**2 + 0.4**2) / 2])  # within, of both members
    between = torch.tensor([0.2**2, 0.2**2])  # 0.3 and 0.7
    torch.testing.assert_close(found["probability_error"][0], (own + between).sqrt())
    assert model.field_column == 0
    assert isinstance(model, FieldModule)
    assert Ensemble([said([0.5, 0.5], [0.0, 0.0], None)] * 2).field_column is None


class Bare:
    """What `line_up` asks of a datamodule."""

    def __init__(self, num_train: int = 4) -> None:
        self.num_train = num_train

    def batches(self, split: str) -> Iterator[dict[str, Tensor]]:
        if split == "all" or self.num_train:
            yield {"index": torch.arange(4)}


def test_the_member_with_most_columns_is_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    def said(probability: list[float], field: int) -> dict[str, Any]:
        arguments = {"probability": probability, "error": probability, "field_column": field}
        return {"class_path": f"{__name__}.Said", "init_args": arguments}

    model = Ensemble([said([0.9, 0.1], 0), said([0.6, 0.0, 0.4], 2), said([0.2, 0.3, 0.5], 2)])
    with caplog.at_level("INFO"):
        model.line_up(Bare())
    columns = model.columns
    assert columns is not None
    assert columns[1] == [0, 1, 2]
    assert columns[0][0] == columns[2][2] == 2  # field to field, whatever they overlap
    assert model.field_column == 2
    joined = [k for k in (0, 1) if columns[2][k] == 2]
    assert ("together are the field" in caplog.text) == bool(joined)
    with pytest.raises(ValueError, match="no object fell into it"):
        model.line_up(Bare(0))


def test_what_is_no_ensemble_is_refused() -> None:
    a, b = member("clustering", "a.ckpt"), member("spectra", "b.ckpt")
    Path("short.ckpt").write_bytes(Path(a).read_bytes()[:1000])
    Path("text.ckpt").write_text("weights")
    torch.save({"state_dict": {}, "hyper_parameters": {}}, "nameless.ckpt")
    for members, sentence in (
        ([a, b], "of one class, not DeepEmbeddedClustering, SpectraVAE"),
        ([], "needs members"),
        (["nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["nameless.ckpt"], "names no class of model"),
        ([{"class_path": "os.system", "init_args": {}}], "os.system is no model"),
        ([{"class_path": "antigravity.Model", "init_args": {}}], "antigravity.Model is no model"),
        (["short.ckpt"], "short.ckpt: truncated or no checkpoint"),
        (["text.ckpt"], "text.ckpt: truncated or no checkpoint"),
        ([{"class_path": "lightning_modules.gone.Model", "init_args": {}}], "No module named"),
        ([{"class_path": SPECTRA, "init_args": {"old": 1}}], "unexpected keyword argument 'old'"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            Ensemble(members)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no SpectraVAE of the members has a dropout"):
        Ensemble([b], dropout_draws=2)


def test_members_keep_hyper_parameters_of_their_own() -> None:
    model = Ensemble([member("spectra", "a.ckpt")])
    (one,) = model.models
    assert isinstance(one, BaseModule)
    assert one.hparams["latent_dim"] == 2
    assert "members" not in one.hparams
