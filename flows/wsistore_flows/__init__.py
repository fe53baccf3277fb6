"""The hospital's nights: Prefect flows over `wsistore.ops`, thin, and the service that runs them."""
