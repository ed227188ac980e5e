"""The number of the key schema: it goes up when equal keys could mean different results."""

KEY_SCHEMA = 1
