"""Simulated star fields (numpy only)."""
