"""Readers of file formats that several methods use: tables, FITS images, files of arrays."""
