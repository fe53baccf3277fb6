"""The gateway: a project's slides over HTTP, as Zarr, as views of it and as pages, to those who may see them."""
