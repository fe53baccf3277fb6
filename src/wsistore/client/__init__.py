"""What research installs: open and read slides."""
