"""The report of the sidm method: posterior of the cross-section, and whether to trust it."""
