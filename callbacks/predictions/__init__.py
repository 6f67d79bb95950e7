"""Predictions to their files."""
