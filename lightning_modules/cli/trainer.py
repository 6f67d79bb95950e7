"""Lightning's Trainer with what the command line adds: `prepare`."""

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console


class AstroTrainer(Trainer):
    """Lightning's Trainer with the subcommand `prepare`."""

    def prepare(
        self,
        model: LightningModule | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Simulate, convert or download the data and stop (for a login or CPU node).

        Args:
            model: Unused; a saved configuration names one.
            datamodule: Whose `prepare_data` runs.
            ckpt_path: Unused; a saved configuration of `fit` may hold it.
            weights_only: Unused, likewise.
        """
        assert datamodule is not None
        datamodule.prepare_data()
        Console(soft_wrap=True).print(f"prepared: {getattr(datamodule, 'store_path', '')}")
