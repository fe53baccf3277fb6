"""What the site uses, and what that costs in money, energy and carbon: metered, modelled, written as Parquet."""
