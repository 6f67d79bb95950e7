"""Scores of finished runs, from arrays (numpy only)."""
