"""Stellar spectra: a variational autoencoder that respects errors and masks."""

from lightning_modules.spectra.module import SpectraVAE

__all__ = ["SpectraVAE"]
