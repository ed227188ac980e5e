"""What people and clients touch: command line, Engine and Python API."""
