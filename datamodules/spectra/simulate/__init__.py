"""Simulated spectra (numpy only)."""
