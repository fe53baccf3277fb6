"""Vendor formats in: tile grid, byte layout, metadata, identity."""
