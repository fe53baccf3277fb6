"""The tuner's measurements: a sample of a slide's tiles, and what every candidate makes of it."""
