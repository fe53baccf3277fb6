"""How a catalogue becomes one of this release's schema."""
