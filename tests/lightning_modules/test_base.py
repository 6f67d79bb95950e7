"""What every module does: exact means, one step, fitted buffers, shapes checked."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule

from lightning_modules import StellarAutoencoder
from tests.reliability.runs import Saver, fit, make_data, make_trainer
from tests.reliability.tiny import TinyModule


def test_logged_means_are_over_objects_not_batches(tmp_path: Path) -> None:
    data = make_data(83, batch_size=16)  # the last batch of each loader is smaller
    run = fit(tmp_path, data=data, max_epochs=1, model={"lr": 0.0})
    metrics = {name: float(value) for name, value in run.trainer.callback_metrics.items()}
    make_trainer(tmp_path).test(run.module, data, verbose=False)
    for stage in ("train", "val"):
        whole = {name: values[data.rows[stage]] for name, values in data.columns.items()}
        for name, value in run.module.eval().step(whole, stage).items():
            assert metrics[f"{stage}/{name}"] == pytest.approx(float(value), rel=1e-6)


def test_statistics_come_from_the_training_split_once(tmp_path: Path) -> None:
    data = make_data(83)
    saver = Saver(tmp_path, "on_train_epoch_end")
    run = fit(tmp_path, saver, data=data, max_epochs=1)
    expected = data.columns["features"][data.rows["train"]].mean(0)
    torch.testing.assert_close(run.module.location, expected)
    assert run.module.statistics_fitted
    other = make_data(50)  # other data: a trained module keeps its own statistics
    make_trainer(tmp_path, max_epochs=1).fit(run.module, other)
    torch.testing.assert_close(run.module.location, expected)
    loaded = TinyModule.load_from_checkpoint(saver.paths[0], weights_only=True)
    torch.testing.assert_close(loaded.location, expected)
    assert loaded.statistics_fitted


def test_test_returns_predictions_and_logs(tmp_path: Path) -> None:
    data = make_data(83)
    trainer = make_trainer(tmp_path)
    module = TinyModule()
    trainer.test(module, data, verbose=False)
    assert {"test/loss", "test/spread"} <= set(trainer.callback_metrics)
    predictions = trainer.predict(module, data)
    assert predictions is not None
    assert sum(len(batch["index"]) for batch in predictions) == 83  # type: ignore[call-overload]


def test_a_repeated_row_does_not_count() -> None:
    module = TinyModule()
    rows = {"index": torch.arange(3), "features": torch.randn(3, 3), "target": torch.zeros(3)}
    with torch.no_grad():
        expected = module.step(rows, "train")["loss"]
        module.training_step(rows, 0)
        first = {name: value[:1] for name, value in rows.items()}
        assert module.training_step({**first, "loss_scale": torch.tensor(0.0)}, 1) == 0
    mean = module.means["train_means"].compute()["loss"]  # type: ignore[operator]
    torch.testing.assert_close(mean, expected)


def test_means_of_another_number_of_processes_are_kept_whole() -> None:
    module = TinyModule()
    means = module._means("train")
    sums = {
        "total": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(),
        "count": torch.ones(2).double(),
    }
    means.restore(sums, rank=0, world_size=1)
    assert means.compute() == {"loss": torch.tensor(2.0), "spread": torch.tensor(3.0)}
    means.reset()
    means.restore(sums, rank=1, world_size=2)
    assert (means.total.tolist(), float(means.count)) == ([3.0, 4.0], 1.0)
    means.restore(sums, rank=1, world_size=3)
    assert float(means.count) == 0.0


def test_shapes_are_compared_with_the_data(tmp_path: Path) -> None:
    class Wide(TinyModule):
        def expected_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
            return {"features": ((5,), "num_features")}

    words = "Wide expects num_features=5 but the data have 3 in 'features'; set model.num_features"
    with pytest.raises(ValueError, match=words):
        make_trainer(tmp_path).fit(Wide(), make_data())
    missing = {"index": torch.arange(4), "target": torch.zeros(4)}
    with pytest.raises(ValueError, match="Wide needs 'features' in the batch"):
        Wide().training_step(missing, 0)


def test_a_foreign_datamodule_is_refused_in_one_sentence(tmp_path: Path) -> None:
    class Foreign(LightningDataModule):
        def train_dataloader(self) -> list[dict[str, torch.Tensor]]:
            return []

    words = r"Foreign has no sample_shapes and no training_statistics, which TinyModule asks for"
    with pytest.raises(ValueError, match=words):
        make_trainer(tmp_path).fit(TinyModule(), Foreign())


def test_without_a_datamodule_the_first_step_compares_shapes() -> None:
    module = StellarAutoencoder(num_features=5, hidden_dims=[8], latent_dim=2)
    batch = {"index": torch.arange(4), "features": torch.zeros(4, 7)}
    with pytest.raises(ValueError, match=r"num_features=5 but the data have 7 in 'features'"):
        module.training_step(batch, 0)


def test_another_size_of_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_train_epoch_end")
    fit(tmp_path, saver, max_epochs=1)
    state = torch.load(saver.paths[0], weights_only=True)["state_dict"]
    state["net.0.weight"] = torch.zeros(9, 3)
    with pytest.raises(ValueError, match=r"fit this TinyModule: .*net\.0\.weight: .*9, 3.*8, 3"):
        TinyModule().load_state_dict(state)


def test_the_run_record_travels_and_this_runs_wins(tmp_path: Path) -> None:
    module = TinyModule()
    module.run_record = {"init_from": "a.ckpt", "note": 1}
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, make_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = TinyModule()
    other.run_record = {"note": 2}
    make_trainer(tmp_path, max_epochs=1).fit(other, make_data(), ckpt_path=tmp_path / "a.ckpt")
    reason = {"stop_reason": "max_epochs: 1 epochs"}
    assert other.run_record == {"init_from": "a.ckpt", "note": 2} | reason
