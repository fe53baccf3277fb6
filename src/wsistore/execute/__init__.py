"""How many workers: serial or Dask."""
