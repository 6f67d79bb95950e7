"""The report of the microlensing method."""
