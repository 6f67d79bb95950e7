"""A slow training or test under `strategy=ddp` or alone, to be told to end from outside."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from callbacks import PreemptionCheckpoint
from tests.reliability.runs import fit, make_data, make_trainer
from tests.reliability.tiny import TinyModule


class Slow(Callback):
    """Says once that this process is at work, and takes its time."""

    said = False

    def on_train_batch_start(self, *args: Any) -> None:
        if not self.said:
            print(f"at work: {os.getpid()}", flush=True)
        self.said = True
        time.sleep(0.3)

    def on_test_batch_start(self, *args: Any) -> None:
        self.on_train_batch_start()


def main(folder: Path, stage: str, devices: int) -> None:
    """Run one stage."""
    processes: dict[str, Any] = {"devices": devices}
    if devices > 1:
        processes |= {"strategy": "ddp", "use_distributed_sampler": False}
    slow, guard = Slow(), PreemptionCheckpoint()
    if stage == "fit":
        model = {"dropout": 0.3, "noise": 0.1}
        fit(folder, slow, guard, model=model, max_epochs=4, **processes)
    else:
        data = make_data(200, batch_size=4)
        make_trainer(folder, slow, guard, **processes).test(TinyModule(), data, verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
