"""Models that cluster stars: autoencoders and deep embedded clustering."""
