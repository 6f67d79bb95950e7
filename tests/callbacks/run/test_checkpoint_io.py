"""Checkpoints are whole or absent, and nothing in them runs."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.run.checkpoint_io import AtomicCheckpointIO, find_damage

IO = AtomicCheckpointIO()


class Hostile:
    """Unpickling this would run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def checkpoint(value: float, size: int = 50) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((size,), value)}, "epoch": 3, "loops": {"a": [1]}}


def value_of(path: Path) -> float:
    weight = IO.load_checkpoint(path)["state_dict"]["weight"]
    assert (weight == weight[0]).all()
    return float(weight[0])


def loads(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return False
    return True


def test_round_trip_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "last.ckpt"
    IO.save_checkpoint(checkpoint(1.0), path)
    IO.save_checkpoint(checkpoint(2.0), str(path))
    assert value_of(path) == 2.0
    assert IO.load_checkpoint(str(path), weights_only=False)["epoch"] == 3
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_missing_file_names_the_newest_good_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint; no good checkpoint is beside"):
        IO.load_checkpoint(tmp_path / "last.ckpt")
    for age, name in ((30, "old"), (20, "newest good"), (10, "broken")):
        IO.save_checkpoint(checkpoint(1.0), tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (time.time() - age,) * 2)
    with (tmp_path / "broken.ckpt").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(FileNotFoundError, match=r"newest good .* beside it is .*newest good"):
        IO.load_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_is_refused_in_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(checkpoint(1.0), path)
    IO.save_checkpoint(checkpoint(1.0), tmp_path / "best.ckpt")
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ValueError, match=r"last\.ckpt: .*(truncated|empty).*best\.ckpt") as caught:
        IO.load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    good, path = tmp_path / "good.ckpt", tmp_path / "flipped.ckpt"
    IO.save_checkpoint(checkpoint(1.0), good)
    data = good.read_bytes()
    refused = 0
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        if find_damage(path) is not None or not loads(path):
            with pytest.raises(ValueError, match=r"^[^\n]*flipped\.ckpt[^\n]*$"):
                IO.load_checkpoint(path)
            refused += 1
            continue
        loaded = IO.load_checkpoint(path)
        assert torch.equal(loaded["state_dict"]["weight"], torch.full((50,), 1.0)), place
        assert (loaded["epoch"], loaded["loops"]) == (3, {"a": [1]}), place
    assert refused > len(data) / 3 / 4  # the rest is padding and times


def test_a_flipped_weight_names_the_part(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(checkpoint(1.0), path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((50,), 1.0).numpy().tobytes()) + 7] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["state_dict"]["weight"][1] != 1.0  # torch is silent
    with pytest.raises(ValueError, match=r"damaged \(wrong CRC in \S*data/0\)"):
        IO.load_checkpoint(path)


@pytest.mark.parametrize("weights_only", [None, False, True])
def test_hostile_pickle_is_refused_whatever_is_asked(
    tmp_path: Path, weights_only: bool | None
) -> None:
    path, trace = tmp_path / "hostile.ckpt", tmp_path / "it ran"
    torch.save({**checkpoint(1.0), "x": Hostile(f"touch '{trace}'")}, path)
    with pytest.raises(ValueError, match=r"refused, for it holds a pickled object .*system.*"):
        IO.load_checkpoint(path, weights_only=weights_only)
    torch.save(Hostile(f"touch '{trace}'"), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="not a checkpoint"):
        IO.load_checkpoint(path, weights_only=weights_only)
    assert not trace.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.ckpt"
    text.write_text("weights: 3\n")
    with pytest.raises(ValueError, match="not a checkpoint"):
        IO.load_checkpoint(text)
    tensor = tmp_path / "tensor.ckpt"
    torch.save(torch.ones(3), tensor)
    with pytest.raises(ValueError, match="no state_dict"):
        IO.load_checkpoint(tensor)
    with pytest.raises(FileNotFoundError):
        IO.load_checkpoint(tmp_path)


def test_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        IO.save_checkpoint(checkpoint(1.0, 100_000), folder / "last.ckpt")
        for _ in range(2):  # 0.4 MB beside 0.8 MB do not fit into 1 MB
            with pytest.raises(OSError, match=r"No space left.*earlier file.*is unchanged"):
                IO.save_checkpoint(checkpoint(2.0, 200_000), folder / "last.ckpt")
        assert os.listdir(folder) == ["last.ckpt"]
        assert value_of(folder / "last.ckpt") == 1.0
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_file_size_limit_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    IO.save_checkpoint(checkpoint(1.0, 1000), path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large.*earlier file.*is unchanged"):
            IO.save_checkpoint(checkpoint(2.0, 100_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert value_of(path) == 1.0


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not be saved.*none is there"):
        IO.save_checkpoint(checkpoint(1.0), tmp_path / "file" / "last.ckpt")


def test_writes_beside_its_name_although_tmpdir_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning writes to $TMPDIR and moves, which is not atomic across file systems."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    monkeypatch.setenv("TMPDIR", str(shm))
    seen: list[str] = []
    monkeypatch.setattr(os, "replace", lambda source, target: seen.append(str(source)))
    IO.save_checkpoint(checkpoint(1.0), tmp_path / "last.ckpt")
    assert seen == [str(tmp_path / ".last.ckpt.tmp")]


SAVE_FOREVER = """
import sys, torch
from callbacks.run.checkpoint_io import AtomicCheckpointIO
for value in range(1, 10_000):
    weight = torch.full((2_000_000,), float(value))
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"weight": weight}}, sys.argv[1])
    print(value, flush=True)
"""


def test_kill_9_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    command = [sys.executable, "-c", SAVE_FOREVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        fragment = tmp_path / ".last.ckpt.tmp"
        end = time.monotonic() + 60
        while not (fragment.exists() and fragment.stat().st_size) and time.monotonic() < end:
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert find_damage(path) is None
    assert value_of(path) >= 1.0
    IO.save_checkpoint(checkpoint(5.0), path)  # takes the fragment's name
    assert os.listdir(tmp_path) == ["last.ckpt"]
