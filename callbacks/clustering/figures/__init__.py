"""Figures of the clustering report, one room a kind."""
