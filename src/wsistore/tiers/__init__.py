"""The life of a slide's copies in tiers."""
