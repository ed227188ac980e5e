"""Running without root: a user namespace of our own, and what can be done where there is none."""
