"""Two gloo processes: equal to one, resumed bit for bit, told to end, stopped by a NaN."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reliability import two_processes
from tests.reliability.processes import Job
from tests.reliability.runs import fit, make_data

Found = dict[str, Any]


@pytest.fixture(scope="module")
def told_to_end(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Job, int]:
    """A training of two processes, of which rank 0 alone got SIGTERM from outside."""
    folder = tmp_path_factory.mktemp("ddp")
    job = Job("slow_job.py", str(folder), "fit", "2")
    job.read_until(r"at work: (\d+)", times=2)
    job.process.send_signal(signal.SIGTERM)
    return folder, job, job.wait()


@pytest.fixture(scope="module")
def ranks(told_to_end: tuple[Path, Job, int]) -> tuple[Found, Found]:
    """What the two processes of `two_processes.py` found."""
    folder = told_to_end[0]
    job = Job("two_processes.py", str(folder))
    assert job.wait() == 0, job.output
    return tuple(torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))


def test_sigterm_saves_and_exits_143_without_a_hang(told_to_end: tuple[Path, Job, int]) -> None:
    folder, job, code = told_to_end  # `wait` returns when no process holds the output open
    assert code == 143, job.output
    assert job.output.count(f"resume with --ckpt_path {folder / 'preempted.ckpt'}") == 1
    assert (folder / "preempted.ckpt").exists()


def test_preempted_run_resumes_bit_for_bit(ranks: tuple[Found, Found]) -> None:
    for found in ranks:
        states = found["preempted"]
        assert torch.equal(states["reference"], states["resumed"])


def test_every_stop_resumes_bit_for_bit(ranks: tuple[Found, Found]) -> None:
    assert ranks[0]["resumed"] == ranks[1]["resumed"]
    assert len(ranks[0]["resumed"]) == 8  # 2 epochs of 2 batches, a validation and an end


@pytest.mark.parametrize("case", range(len(two_processes.SIZES)))
def test_training_equals_one_process(
    ranks: tuple[Found, Found], case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_rows, batch_size = two_processes.SIZES[case]
    monkeypatch.setattr(two_processes, "FOLDER", tmp_path)
    alone = two_processes.trained(num_rows, 2 * batch_size)
    for found in ranks:
        together = found["trained"][case]
        assert torch.equal(together["state"], ranks[0]["trained"][case]["state"])
        torch.testing.assert_close(together["state"], alone["state"], rtol=1e-6, atol=1e-6)
        assert together["logged"].keys() == alone["logged"].keys()
        for key, value in together["logged"].items():
            assert value == pytest.approx(alone["logged"][key], rel=1e-6), key


def test_sizes_cover_an_uneven_end_and_a_rank_without_rows() -> None:
    ends = []
    for num_rows, batch_size in two_processes.SIZES:
        data = two_processes.make_data(num_rows)
        data.prepare_data()
        data.setup()
        ends.append(len(data.rows["train"]) % (2 * batch_size))
    assert 1 in ends
    assert any(end > 1 and end % 2 for end in ends)


def test_a_notebooks_trainer_gives_the_same(ranks: tuple[Found, Found]) -> None:
    """`use_distributed_sampler` is True by default; our loaders shard themselves all the same."""
    for found in ranks:
        own, notebook = found["trained"][0], found["trained as in a notebook"]
        assert torch.equal(own["state"], notebook["state"])
        assert own["logged"] == notebook["logged"]
        evaluated = found["evaluated as in a notebook"]
        assert evaluated["metrics"] == found["evaluated"][0]["metrics"]
        assert evaluated["seen"] == found["evaluated"][0]["seen"]


def test_evaluation_equals_one_process(
    ranks: tuple[Found, Found], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_processes, "FOLDER", tmp_path)
    alone = two_processes.evaluated(16)
    assert alone["returned"] == 83
    for case in (0, 1):
        for found in ranks:
            together = found["evaluated"][case]
            assert together["metrics"] == pytest.approx(alone["metrics"], rel=1e-6)
            torch.testing.assert_close(together["tested"], alone["tested"])
            torch.testing.assert_close(together["predicted"], alone["predicted"])


def test_each_row_is_evaluated_once(ranks: tuple[Found, Found]) -> None:
    for stage in (0, 1):
        seen = [found["evaluated"][0]["seen"][stage] for found in ranks]
        assert sorted(seen[0] + seen[1]) == list(range(83))
        # Batches of one row: 42 on each rank, so the 84th repeats a row, which counts in no mean.
        single = [found["evaluated"][1]["seen"][stage] for found in ranks]
        assert sorted(single[0] + single[1]) == [0, *range(83)]


def test_non_finite_loss_stops_both_ranks_with_the_same_words(ranks: tuple[Found, Found]) -> None:
    assert ranks[0]["non_finite"] == ranks[1]["non_finite"]
    for words in ("train/loss = nan", "epoch 0", "of rank", "not finite: star 3"):
        assert words in ranks[0]["non_finite"]


def test_another_number_of_processes_resumes_at_the_same_rows(
    ranks: tuple[Found, Found], told_to_end: tuple[Path, Job, int], tmp_path: Path
) -> None:
    path = sorted((told_to_end[0] / "stops").glob("*.ckpt"))[0]
    with pytest.warns(UserWarning, match="saved by 2 processes and is resumed by 1: random states"):
        run = fit(tmp_path, ckpt_path=path, data=make_data(batch_size=16), max_epochs=2)
    assert run.trainer.global_step == 4
    with pytest.raises(ValueError, match=r"cannot resume inside epoch 0: .*'rows per step': 16"):
        fit(tmp_path, ckpt_path=path, data=make_data(batch_size=8), max_epochs=2)


def test_sigterm_ends_a_test_of_two_processes(tmp_path: Path) -> None:
    job = Job("slow_job.py", str(tmp_path), "test", "2", timeout=60)
    job.read_until(r"at work: (\d+)", times=2)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait() == 143, job.output
    assert not (tmp_path / "preempted.ckpt").exists()
