"""Simulated microlensing events (numpy only)."""
