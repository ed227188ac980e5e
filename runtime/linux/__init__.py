"""Thin wrappers that bear the names of the system calls they make."""
