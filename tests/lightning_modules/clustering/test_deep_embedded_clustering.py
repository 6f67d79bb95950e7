import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import BestCheckpoint, EarlyStopping
from callbacks.metrics.contingency import accuracy, contingency
from lightning_modules import DeepEmbeddedClustering, StellarAutoencoder
from lightning_modules.clustering.network import soft_assignment, target_distribution
from lightning_modules.clustering.progress import Phase
from lightning_modules.clustering.targets import DECTargets

MakeData = Callable[..., Any]
MakeTrainer = Callable[..., Trainer]
SMALL: dict[str, Any] = {"hidden_dims": [16, 8], "latent_dim": 3}


def small(**arguments: Any) -> DeepEmbeddedClustering:
    seed_everything(1)
    settings: dict[str, Any] = {**SMALL, "num_clusters": 3, "pretrain_epochs": 2}
    return DeepEmbeddedClustering(**(settings | {"update_interval": 3} | arguments))


def gathered(trainer: Trainer, model: LightningModule, data: LightningDataModule) -> dict[str, Any]:
    batches = trainer.predict(model, data)
    assert batches is not None
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


class Watch(Callback):
    """Notes what each step used."""

    def __init__(self) -> None:
        self.phases: list[int] = []
        self.rates: list[float] = []
        self.refreshes: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, DeepEmbeddedClustering)
        self.phases.append(int(pl_module.progress.phase))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.refreshes.append(pl_module.progress.refreshed_step)


@pytest.mark.parametrize("method", ["dec", "idec"])
def test_blobs_are_found_without_labels(
    method: Literal["dec", "idec"], make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, trainer = make_data(spread=20.0), make_trainer(25)
    model = small(method=method, pretrain_epochs=15, lr=3e-3, cluster_lr=1e-3)
    trainer.fit(model, data)
    prediction = gathered(trainer, model, data)
    assert (
        accuracy(contingency(data.columns["label"].numpy(), prediction["assignment"].numpy()))
        > 0.98
    )
    assert set(prediction) == {
        "index", "latent", "reconstruction_error", "probability", "assignment",
    }  # fmt: skip
    torch.testing.assert_close(prediction["probability"].sum(1), torch.ones(300))


def test_phases_learning_rate_and_refreshes(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    watch = Watch()
    trainer = make_trainer(5, callbacks=[watch])
    trainer.fit(small(tolerance=0.0, cluster_lr=1e-4, finetune_epochs=1), make_data())
    steps = trainer.global_step // 5
    assert watch.phases == [0] * 2 * steps + [1] * 2 * steps + [2] * steps
    assert watch.rates == [1e-3] * 2 * steps + [1e-4] * 3 * steps
    begun = [step for step in range(2 * steps, 4 * steps) if (step - 2 * steps) % 3 == 0]
    assert sorted(set(watch.refreshes) - {0}) == begun


def test_the_schedule_goes_on_through_the_phases(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    watch = Watch()
    trainer = make_trainer(4, callbacks=[watch])
    trainer.fit(small(tolerance=0.0, cluster_lr=1e-4, schedule="cosine"), make_data())
    total = trainer.global_step
    falls = [0.5 * (1 + math.cos(math.pi * step / total)) for step in range(1, total + 1)]
    bases = [1e-3] * (total // 2) + [1e-4] * (total - total // 2)
    assert watch.rates == pytest.approx([a * b for a, b in zip(falls, bases, strict=True)])


def test_targets_come_from_the_whole_split_in_eval_mode(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, trainer = make_data(), make_trainer(3)
    model = small(dropout=0.5, update_interval=10**6)
    seen: dict[str, Tensor] = {}

    def expect(self: DeepEmbeddedClustering, *_: Any) -> bool:
        rows = data.rows["train"]
        net = model.net.eval()
        with torch.no_grad():
            q = soft_assignment(
                net.encode(model.scaler(data.columns["features"][rows])), model.centres
            )
        seen["index"], seen["p"] = data.columns["index"][rows], target_distribution(q)
        net.train()
        return original(self)

    original = DeepEmbeddedClustering._refresh_targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeepEmbeddedClustering, "_refresh_targets", expect)
        trainer.fit(model, data)
    assert model.targets is not None
    assert len(model.targets.index) == len(data.rows["train"])
    torch.testing.assert_close(model.targets.of(seen["index"]), seen["p"])
    torch.testing.assert_close(model.frequency.sum().item(), float(len(data.rows["train"])))


def test_every_star_gets_its_own_target_under_shuffling(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    used: dict[int, Tensor] = {}
    original = DECTargets.of

    def record(self: DECTargets, index: Tensor) -> Tensor:
        p = original(self, index)
        used.update(zip(index.tolist(), p, strict=True))
        return p

    data, model = make_data(), small(update_interval=10**6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DECTargets, "of", record)
        make_trainer(4).fit(model, data)
    assert model.targets is not None
    assert sorted(used) == sorted(data.rows["train"].tolist())
    for star, p in used.items():
        row = int(torch.where(model.targets.index == star)[0])
        torch.testing.assert_close(p, model.targets.probability[row])


def test_training_never_sees_labels(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    def weights(scrambled: bool) -> dict[str, Tensor]:
        data, model = make_data(), small()
        data.prepare_data()
        data.setup()
        if scrambled:
            data.columns["label"] = torch.zeros_like(data.columns["label"])
        make_trainer(4).fit(model, data)
        return model.state_dict()

    honest, blind = weights(False), weights(True)
    assert all(torch.equal(honest[name], blind[name]) for name in honest)


def test_stops_when_labels_settle_and_says_so(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    trainer = make_trainer(50)
    model = small(tolerance=0.5)
    trainer.fit(model, make_data())
    assert trainer.current_epoch < 50
    reason = model.run_record["stop_reason"]
    assert reason.startswith("label change 0.0")
    assert reason.endswith(f"< 0.5 at step {trainer.global_step - 1}")


def test_says_when_the_epochs_ran_out(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    model = small(tolerance=0.0)
    make_trainer(3).fit(model, make_data())
    assert model.run_record["stop_reason"] == "max_epochs: 3 epochs"
    make_trainer(9, max_steps=12).fit(model, make_data())
    assert model.run_record["stop_reason"] == "max_steps: 12 steps"
    pretrained = small(pretrain_epochs=5)
    make_trainer(3).fit(pretrained, make_data())
    assert "no clusters yet" in pretrained.run_record["stop_reason"]


def test_settled_labels_begin_fine_tuning(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    watch, model = Watch(), small(method="dec", tolerance=0.5, finetune_epochs=2)
    trainer = make_trainer(50, callbacks=[watch])
    trainer.fit(model, make_data())
    steps = int(trainer.num_training_batches)
    assert model.progress.phase is Phase.FINETUNING
    assert 2 * steps <= watch.phases.count(2) < 3 * steps
    begun = model.progress.refreshed_step
    reason = rf"label change 0\.0\d+ < 0\.5 at step {begun}, then 2 epochs of fine-tuning"
    assert re.fullmatch(reason, model.run_record["stop_reason"])


def test_fine_tuning_that_is_cut_short_is_not_told_as_settled(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    model = small(tolerance=0.5, finetune_epochs=10)
    make_trainer(50, max_steps=20).fit(model, make_data())
    assert model.progress.phase is Phase.FINETUNING
    assert model.run_record["stop_reason"] == "max_steps: 20 steps"


def test_balance_shifts_weight_to_the_rare_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.cat(
        [torch.randn(950, 1, generator=generator), 3 + torch.randn(50, 1, generator=generator)]
    )
    q = soft_assignment(z, torch.tensor([[0.0], [3.0]]))
    balanced, free = target_distribution(q), target_distribution(q, balance=False)
    assert balanced[:, 1].sum() > free[:, 1].sum()
    assert (balanced.argmax(1) != q.argmax(1)).any()  # balance moves stars to the rare cluster
    assert torch.equal(free.argmax(1), q.argmax(1))  # without it no star is moved


@pytest.mark.parametrize(("phase", "share"), [(0, 0.9), (1, 0.5), (2, 0.5)])
def test_corruption_of_the_phase(phase: int, share: float, make_data: MakeData) -> None:
    seen: list[Tensor] = []
    model = small(corruption=0.9, cluster_corruption=0.5, dropout=0.0, batch_norm=False)
    model.progress.enter(Phase(phase), 0)
    index = torch.arange(2000)
    model.targets = DECTargets(index, torch.full((2000, 3), 1 / 3), index % 3)
    model.net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.step({"index": index, "features": torch.ones(2000, 5)}, "train")
    assert (seen[0] == 0).float().mean().item() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("balance", [True, False])
def test_balance_reaches_the_targets(
    balance: bool, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, model = make_data(sizes=(280, 20)), small(num_clusters=2, balance=balance)
    model.update_interval = 10**6
    make_trainer(3, limit_train_batches=1).fit(model, data)
    assert model.targets is not None
    q_order = model.targets.assignment
    moved = model.targets.probability.argmax(1) != q_order
    assert balance or not moved.any()


@pytest.mark.parametrize("method", ["dec", "idec"])
def test_validation_loss_uses_training_frequencies(
    method: Literal["dec", "idec"], make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, trainer, model = make_data(), make_trainer(3), small(method=method)
    trainer.fit(model, data)
    model.eval()
    batch = {name: values[data.rows["val"]] for name, values in data.columns.items()}
    terms = model.step(batch, "val")
    q = soft_assignment(model.net.encode(model.scaler(batch["features"])), model.centres)
    p = target_distribution(q, frequency=model.frequency)
    kl = (p * (p / q).log()).sum(1).mean()
    expected = kl if method == "dec" else terms["reconstruction"] + 0.1 * kl
    torch.testing.assert_close(terms["loss"], expected)


@pytest.mark.parametrize("method", ["dec", "idec"])
def test_every_parameter_has_a_gradient_in_every_phase(
    method: Literal["dec", "idec"], make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    # DDP hangs or raises otherwise.
    missing: list[str] = []

    class Check(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
            missing.extend(n for n, p in pl_module.named_parameters() if p.grad is None)

    model = small(method=method, finetune_epochs=1, variant="residual")
    make_trainer(4, callbacks=[Check()]).fit(model, make_data())
    assert not missing


def test_dec_leaves_the_decoder_as_pretraining_left_it(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, auto = make_data(), StellarAutoencoder(**SMALL)
    make_trainer(2).fit(auto, data)
    for method, stays in (("dec", True), ("idec", False)):
        model = small(method=method, pretrain_epochs=0, tolerance=0.0)
        model.load_state_dict(auto.state_dict(), strict=False)
        make_trainer(2).fit(model, data)
        weights = [
            torch.equal(a, b)
            for a, b in zip(
                model.net.decoder.parameters(), auto.net.decoder.parameters(), strict=True
            )
        ]
        assert all(weights) if stays else not any(weights[:-1])


def test_an_autoencoder_checkpoint_starts_clustering(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, auto = make_data(), StellarAutoencoder(**SMALL)
    make_trainer(2).fit(auto, data)
    model = small(pretrain_epochs=0, update_interval=10**6, cluster_lr=1e-12)
    result = model.load_state_dict(auto.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert set(result.missing_keys) == {"centres", "frequency", "progress.state"}
    make_trainer(1, limit_train_batches=1).fit(model, data)
    assert model.progress.phase is Phase.CLUSTERING
    x = auto.eval().scaler(data.columns["features"][data.rows["train"]])
    latent = auto.net.encode(x)
    nearest = torch.cdist(latent, model.centres).argmin(1)
    means = torch.stack([latent[nearest == cluster].mean(0) for cluster in range(3)])
    torch.testing.assert_close(means, model.centres, atol=1e-4, rtol=1e-4)


def test_a_clustered_checkpoint_keeps_its_centres(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    data, first, again = make_data(), small(tolerance=0.0), small(cluster_lr=1e-12)
    make_trainer(4).fit(first, data)
    again.load_state_dict(first.state_dict())
    assert again.progress.phase is Phase.CLUSTERING
    make_trainer(1, limit_train_batches=1).fit(again, data)
    torch.testing.assert_close(again.centres, first.centres)


def test_predicts_new_stars(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data, trainer, model = make_data(), make_trainer(4), small()
    trainer.fit(model, data)
    batch = {"index": torch.tensor([10**6, 10**6 + 1]), "features": data.columns["features"][:2]}
    prediction = model.eval().predict_step(batch)
    torch.testing.assert_close(
        prediction["probability"], gathered(trainer, model, data)["probability"][:2]
    )
    assert prediction["index"].tolist() == [10**6, 10**6 + 1]


def test_before_clustering_there_is_no_membership(make_data: MakeData) -> None:
    batch = {"index": torch.arange(2), "features": torch.zeros(2, 5)}
    assert "probability" not in small().eval().predict_step(batch)


def test_the_last_state_counts_and_nothing_stops_early(
    make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    best = BestCheckpoint()
    best.dirpath = str(tmp_path / "ckpt")
    stopping = EarlyStopping(patience=1, min_delta=1e6)
    trainer = make_trainer(6, callbacks=[best, stopping], enable_checkpointing=True)
    model = small(tolerance=0.0)
    trainer.fit(model, make_data())
    assert trainer.current_epoch == 6
    loaded = DeepEmbeddedClustering.load_from_checkpoint(tmp_path / "ckpt" / "best.ckpt")
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())


def test_more_clusters_than_stars_is_refused(
    make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    with pytest.raises(ValueError, match=r"num_clusters=500 exceeds the .* objects"):
        make_trainer(1).fit(small(num_clusters=500, pretrain_epochs=0), make_data())


def test_dead_clusters_are_reported(make_data: MakeData, make_trainer: MakeTrainer) -> None:
    data, first, again = make_data(), small(), small()
    make_trainer(3).fit(first, data)
    again.load_state_dict(first.state_dict())
    with torch.no_grad():
        again.centres[1] = 1e6
    with pytest.warns(UserWarning, match=r"clusters \[1\] hold no star"):
        make_trainer(1).fit(again, data)


def test_bare_loaders_are_refused_with_the_way_out(make_trainer: MakeTrainer) -> None:
    batches = [{"index": torch.arange(8), "features": torch.randn(8, 5)}]
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"fit\(module, datamodule="):
        make_trainer(1).fit(small(pretrain_epochs=0), loader)


def test_hyper_parameters_are_the_arguments() -> None:
    arguments = set(inspect.signature(DeepEmbeddedClustering).parameters)
    assert set(DeepEmbeddedClustering().hparams) == arguments


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="update_interval=0"):
        small(update_interval=0)
