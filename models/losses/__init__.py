"""Loss functions as plain tables, keyed by the spec's enums."""
