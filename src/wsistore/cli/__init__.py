"""The command line: commands of a few lines each over `wsistore.ops`."""
