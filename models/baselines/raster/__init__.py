"""Raster decoding: a picture code by code."""
