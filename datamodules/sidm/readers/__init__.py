"""Maps of galaxy clusters as their owners keep them."""
