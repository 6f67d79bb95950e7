"""The models: every LightningModule of astrolit."""

from lightning_modules.base import BaseModule

__all__ = ["BaseModule"]
