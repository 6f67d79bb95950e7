"""Spectra as surveys publish them."""
