"""Models fitted in passes: the right answer, checkpoints, resume, two processes, a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from sklearn.mixture import GaussianMixture

from callbacks.run.checkpoints import BestCheckpoint, LastCheckpoint
from lightning_modules.cli.app import main
from tests.lightning_modules.mixture import BlobsData, Mixture
from tests.lightning_modules.two_processes import SIZES
from tests.reliability.processes import Job
from tests.reliability.runs import Run, Saver, assert_same_from, fit

MIXTURE = "tests.lightning_modules.mixture"
STOPS = (
    "on_train_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_train_epoch_end",
    "on_train_end",
)


def fitted(folder: Path, *callbacks: Any, **arguments: Any) -> Run:
    defaults: dict[str, Any] = {"kind": Mixture, "data": BlobsData()}
    return fit(folder, *callbacks, **(defaults | arguments))


def parameters(module: Any) -> dict[str, torch.Tensor]:
    return {name: getattr(module, name).clone() for name in ("weight", "mean", "covariance")}


def reference(data: BlobsData, passes: int) -> GaussianMixture:
    """scikit-learn's answer after so many passes over the training split."""
    start = Mixture()
    precision = np.linalg.inv(start.covariance.numpy())
    model = GaussianMixture(
        2, tol=0.0, reg_covar=0.0, max_iter=passes, weights_init=start.weight.numpy(),
        means_init=start.mean.numpy(), precisions_init=precision,
    )  # fmt: skip
    return model.fit(data.columns["features"][data.rows["train"]].double().numpy())


@pytest.mark.filterwarnings("ignore:.*did not converge.*")
def test_passes_are_those_of_scikit_learn(tmp_path: Path) -> None:
    run = fitted(tmp_path, max_epochs=5)
    data = run.trainer.datamodule
    expected = reference(data, 5)
    found = parameters(run.module)
    for name, values in zip(found, ("weights_", "means_", "covariances_"), strict=True):
        np.testing.assert_allclose(found[name], getattr(expected, values), rtol=1e-10)
    # The loss of a pass is that of the parameters before it, the validation's of those after.
    before = reference(data, 4)
    train, val = (data.columns["features"][data.rows[name]].numpy() for name in ("train", "val"))
    metrics = run.trainer.callback_metrics
    assert float(metrics["train/loss"]) == pytest.approx(-before.score(train), rel=1e-6)
    assert float(metrics["val/loss"]) == pytest.approx(-expected.score(val), rel=1e-6)


def test_a_fit_in_memory_makes_the_same_passes(tmp_path: Path) -> None:
    run = fitted(tmp_path, max_epochs=5)
    alone = Mixture()
    alone.fit_in_memory(lambda: run.trainer.datamodule.batches("train"), 5)
    for name, values in parameters(alone).items():
        torch.testing.assert_close(values, getattr(run.module, name))


def test_a_fit_resumes_bit_for_bit_wherever_it_stopped(tmp_path: Path) -> None:
    saver = Saver(tmp_path, *STOPS)
    reference = fitted(tmp_path, saver)
    assert len(saver.paths) == 3 * (7 + 1 + 2 + 1) + 2
    for path in saver.paths:
        resumed = fitted(tmp_path, seed=2, ckpt_path=path)
        assert_same_from(path, reference, resumed)
    inside = torch.load(saver.paths[3], weights_only=True)["astrolit"]["pass"]
    assert float(inside["sums"]["count"]) == 3 * 8  # of the pass in progress


def test_every_pass_refreshes_the_checkpoints(tmp_path: Path) -> None:
    class Probe(Checkpoint):
        """After the checkpoints of its like: what they hold."""

        seen: list[tuple[torch.Tensor, ...]] = []  # noqa: RUF012

        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            files = (torch.load(tmp_path / f"{name}.ckpt") for name in ("best", "last"))
            means = (file["state_dict"]["mean"] for file in files)
            self.seen.append((pl_module.mean.clone(), *means))

    best, last, probe = BestCheckpoint(), LastCheckpoint(), Probe()
    best.dirpath = last.dirpath = str(tmp_path)
    fitted(tmp_path, best, last, probe)
    assert len(probe.seen) == 3
    for now, kept, newest in probe.seen:  # val/loss falls at each pass
        assert torch.equal(now, kept)
        assert torch.equal(now, newest)
    assert not torch.equal(probe.seen[0][0], probe.seen[1][0])


def test_a_converged_fit_ends_and_stays_ended(tmp_path: Path) -> None:
    saver = Saver(tmp_path, "on_validation_end", "on_train_epoch_end")
    run = fitted(tmp_path, saver, model={"tolerance": 0.02}, max_epochs=50)
    passes = run.trainer.current_epoch
    assert 3 < passes < 30
    losses = [value for (_, name), value in sorted(run.logged.items()) if name == "train/loss"]
    steps = -np.diff(losses)
    assert len(losses) == passes
    assert (steps[:-1] >= 0.02).all()
    assert 0 <= steps[-1] < 0.02
    assert "moved by less than 0.02" in run.module.run_record["stop_reason"]
    for path in saver.paths[-2:]:  # resumed before and after the last pass was over
        again = fitted(tmp_path, ckpt_path=path, model={"tolerance": 0.02}, max_epochs=50)
        assert_same_from(path, run, again)
    further = fitted(tmp_path, ckpt_path=path, model={"tolerance": 0.0}, max_epochs=passes + 2)
    assert further.trainer.current_epoch == passes + 2


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    data = BlobsData()
    data.prepare_data()
    data.setup()
    row = int(data.rows["train"][5])
    data.columns["features"][row] = torch.nan
    with pytest.raises(FloatingPointError, match=f"are not finite: {row}"):
        fitted(tmp_path, data=data)


@pytest.mark.parametrize("case", range(len(SIZES)))
def test_two_processes_fit_as_one(
    case: int, two_processes: list[dict[str, Any]], tmp_path: Path
) -> None:
    num_rows, batch_size = SIZES[case]
    alone = fitted(tmp_path, data=BlobsData(num_rows, 2 * batch_size))
    state = alone.module.state_dict()
    for rank in two_processes:
        found = rank["fitted"][case]
        for name, values in found["state"].items():
            assert torch.equal(values, two_processes[0]["fitted"][case]["state"][name])
            torch.testing.assert_close(values, state[name], rtol=1e-10, atol=1e-10)
        assert found["logged"] == pytest.approx(alone.logged, rel=1e-6)


def test_sizes_cover_an_uneven_end_and_a_process_without_rows(tmp_path: Path) -> None:
    ends = []
    for num_rows, batch_size in SIZES:
        data = BlobsData(num_rows, cache_dir=str(tmp_path))
        data.prepare_data()
        data.setup()
        ends.append(len(data.rows["train"]) % (2 * batch_size))
    assert 1 in ends
    assert any(end > 1 and end % 2 for end in ends)


def test_two_processes_resume_bit_for_bit(two_processes: list[dict[str, Any]]) -> None:
    assert two_processes[0]["resumed"] == two_processes[1]["resumed"]
    assert len(two_processes[0]["resumed"]) == 7


def test_killed_in_two_processes_resumed_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTROLIT_ALLOW_IMPORTS", "tests")
    words = [
        "fit", f"--model={MIXTURE}.Mixture", f"--data={MIXTURE}.BlobsData", "--data.num_rows=81",
        f"--data.cache_dir={tmp_path}", "--trainer.max_epochs=3", "--trainer.accelerator=cpu",
        "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}",
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1",
        "--last_checkpoint.every_n_train_steps=1",
    ]  # fmt: skip
    processes = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.batch_size=8"]
    slow = f"--trainer.callbacks+={MIXTURE}.Slow"
    job = Job(str(Path(__file__).with_name("fit_job.py")), *words, *processes, slow)
    job.read_until("step 6$")  # two of the four batches of the second pass are in the checkpoint
    job.kill()
    job.wait()
    (last,) = tmp_path.rglob("last.ckpt")
    inside = torch.load(last, weights_only=True)
    assert float(inside["astrolit"]["pass"]["sums"]["count"]) == 32
    main([*words, "--trainer.devices=1", "--data.batch_size=16", f"--ckpt_path={last}"])
    (ended,) = set(tmp_path.rglob("last.ckpt")) - {last}
    alone = fitted(tmp_path, data=BlobsData(81, 16))
    found = torch.load(ended, weights_only=True)["state_dict"]
    for name, values in parameters(alone.module).items():
        torch.testing.assert_close(found[name], values, rtol=1e-10, atol=1e-10)
