"""Models that measure the cross-section of dark matter from maps of galaxy clusters."""
