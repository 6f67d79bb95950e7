"""Simulated maps of galaxy clusters (numpy only)."""
