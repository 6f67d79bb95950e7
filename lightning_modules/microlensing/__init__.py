"""Models that classify microlensing events while they unfold."""
