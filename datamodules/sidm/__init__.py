"""Maps of galaxy clusters."""
