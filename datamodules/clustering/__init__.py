"""Star catalogues for clustering."""
