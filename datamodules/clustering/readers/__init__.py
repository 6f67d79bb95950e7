"""Star catalogues as they are published."""
