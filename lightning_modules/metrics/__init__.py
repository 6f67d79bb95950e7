"""Metrics that two or more methods use (torchmetrics and numpy; no Lightning)."""
