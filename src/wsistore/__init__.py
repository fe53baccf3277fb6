"""Keeps whole slide images: the vendor's file and the Zarr store are the same bytes."""
