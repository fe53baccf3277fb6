"""What is where and what is in flight: slides, copies with their evidence, events."""
