"""The report and the writer of the spectra method."""
