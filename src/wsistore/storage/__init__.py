"""Where bytes live: one contract, its back ends and its decorators."""
