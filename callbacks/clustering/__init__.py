"""The report and the membership table of the clustering method."""
