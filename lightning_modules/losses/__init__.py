"""Losses that two or more methods use (torch only; no Lightning)."""
