"""Stellar spectra: a variational autoencoder that respects errors and masks."""
