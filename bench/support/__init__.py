"""What all benchmarks share. Modules that peers' workers import use the standard library only."""
