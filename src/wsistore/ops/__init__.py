"""The use cases, and the wiring of the packages that they need."""
