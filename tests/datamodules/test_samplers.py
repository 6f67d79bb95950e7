"""Orders are functions of (seed, epoch), shards cover every row once, loaders resume exactly."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.samplers import (
    ArrayDataset,
    Batch,
    EpochBatchSampler,
    ResumableDataLoader,
    ShardSampler,
    make_loader,
)
from tests.reliability.runs import fit, make_data, make_trainer
from tests.reliability.tiny import TinyModule

ROWS = torch.arange(100, 183)


def epoch_of(sampler: EpochBatchSampler, epoch: int) -> list[tuple[Tensor, float]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def loader_of(num_workers: int = 0, seed: int = 0) -> ResumableDataLoader:
    columns = {"index": torch.arange(200), "features": torch.arange(400.0).reshape(200, 2)}
    loader = make_loader(columns, EpochBatchSampler(ROWS, 10, seed), num_workers)
    assert isinstance(loader, ResumableDataLoader)
    return loader


def read_epoch(loader: DataLoader[Batch], epoch: int) -> list[list[int]]:
    assert isinstance(loader.sampler, EpochBatchSampler)
    loader.sampler.set_epoch(epoch)
    return [batch["index"].tolist() for batch in loader]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 8, 41, 100])
def test_shards_of_a_step_make_the_global_batch(world_size: int, batch_size: int) -> None:
    single = EpochBatchSampler(ROWS, batch_size * world_size, seed=4)
    ranks = [EpochBatchSampler(ROWS, batch_size, 4, r, world_size) for r in range(world_size)]
    for epoch in (0, 1):
        shards = [epoch_of(sampler, epoch) for sampler in ranks]
        whole = epoch_of(single, epoch)
        assert {len(shard) for shard in shards} == {len(whole)} == {len(single), len(ranks[0])}
        for step, (rows, scale) in enumerate(whole):
            assert scale == 1.0
            parts = [shard[step] for shard in shards]
            counted = torch.cat([part for part, weight in parts if weight > 0])
            assert sorted(counted.tolist()) == sorted(rows.tolist())
            # the mean over ranks of scale * (mean over the rank's rows) is the mean over all rows
            mean = sum(weight * part.double().mean() for part, weight in parts) / world_size
            torch.testing.assert_close(mean, rows.double().mean())


def test_epochs_and_seeds_give_other_orders_of_the_same_rows() -> None:
    orders = [
        torch.cat([rows for rows, _ in epoch_of(EpochBatchSampler(ROWS, 10, seed), epoch)])
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    for place, order in enumerate(orders):
        assert sorted(order.tolist()) == ROWS.tolist()
        assert not any(torch.equal(order, other) for other in orders[:place])
    again = torch.cat([rows for rows, _ in epoch_of(EpochBatchSampler(ROWS, 10, 0), 1)])
    assert torch.equal(again, orders[1])


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "world_size"),
    [(83, 8, 1), (83, 8, 2), (83, 1, 2), (17, 8, 2), (3, 2, 2), (1, 4, 3), (0, 4, 2)],
)
def test_evaluation_shards_hold_each_row_once_in_equally_many_batches(
    num_rows: int, batch_size: int, world_size: int
) -> None:
    rows = torch.arange(num_rows) + 7
    shards = [list(ShardSampler(rows, batch_size, r, world_size)) for r in range(world_size)]
    samplers = [ShardSampler(rows, batch_size, r, world_size) for r in range(world_size)]
    assert [len(sampler) for sampler in samplers] == [len(shard) for shard in shards]
    assert len({len(shard) for shard in shards}) == 1
    parts = [part for shard in shards for part in shard]
    assert all(1 <= len(part) <= batch_size for part, _ in parts)
    counted = sorted(row for part, scale in parts for row in part.tolist() if scale)
    assert counted == rows.tolist()
    assert all(len(part) == 1 for part, scale in parts if not scale)


def test_batches_are_whole_and_only_an_uneven_step_has_a_scale() -> None:
    columns = {"index": torch.arange(9), "features": torch.randn(9, 3)}
    data = ArrayDataset(columns, ShardSampler(torch.arange(9), 4))
    batch = data[torch.tensor([5, 2]), 1.0]
    assert batch.keys() == columns.keys()
    assert torch.equal(batch["features"], columns["features"][[5, 2]])
    assert data[torch.tensor([5]), 0.5]["loss_scale"] == 0.5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumes_in_the_middle_and_goes_on_to_the_next_epoch(num_workers: int) -> None:
    plain = loader_of()
    epochs = [read_epoch(plain, epoch) for epoch in range(3)]
    assert epochs[0] != epochs[1]
    loader = loader_of(num_workers)
    assert isinstance(loader.sampler, EpochBatchSampler)
    loader.sampler.set_epoch(1)
    batches = iter(loader)
    first = [next(batches)["index"].tolist() for _ in range(3)]  # workers have read ahead
    state = loader.state_dict()
    resumed = loader_of(num_workers)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state  # saved again before the first batch
    rest = read_epoch(resumed, 1)
    assert first + rest == epochs[1]
    assert read_epoch(resumed, 2) == epochs[2]


def test_a_finished_epoch_is_not_continued() -> None:
    loader = loader_of()
    epochs = [read_epoch(loader, epoch) for epoch in range(2)]
    loader = loader_of()
    read_epoch(loader, 0)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    assert read_epoch(resumed, 1) == epochs[1]
    cut_short = loader_of()
    cut_short.load_state_dict({"epoch": 0, "batches": 2, "finished": True})
    assert read_epoch(cut_short, 0) == []
    assert read_epoch(cut_short, 1) == epochs[1]


def test_another_order_is_refused_inside_an_epoch_only() -> None:
    loader = loader_of(seed=0)
    next(iter(loader))
    other = loader_of(seed=1)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match=r"inside epoch 0: .*'seed': 0.*'seed': 1.*data\.seed"):
        read_epoch(other, 0)
    other.load_state_dict(loader.state_dict())
    assert len(read_epoch(other, 1)) == 9


def test_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        read_epoch(loader_of(num_workers), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_do_not_change_the_training(tmp_path: Path) -> None:
    model = {"dropout": 0.3, "noise": 0.1}
    runs = [fit(tmp_path, data=make_data(num_workers=n), model=model) for n in (0, 2)]
    assert torch.equal(runs[0].state(), runs[1].state())
    assert runs[0].logged == runs[1].logged


def test_overfit_batches_repeats_the_same_batches(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Recording(TinyModule):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            seen.append(batch["index"].tolist())
            return super().training_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="You requested to overfit"):
        make_trainer(tmp_path, overfit_batches=2).fit(Recording(), make_data())
    assert len(seen) == 6
    assert seen[:2] == seen[2:4] == seen[4:]
    assert seen[0] != seen[1]


def test_a_killed_worker_is_a_clear_error(tmp_path: Path) -> None:
    class Killing(TinyModule):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loader = self.trainer.train_dataloader
            assert isinstance(loader, DataLoader)
            os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)  # type: ignore[union-attr]
            return super().training_step(batch, batch_idx)

    data = make_data(400, num_workers=1)
    trainer: Trainer = make_trainer(tmp_path)
    with pytest.raises(RuntimeError, match=r"DataLoader worker .*(exited unexpectedly|killed)"):
        trainer.fit(Killing(), data)
