"""What a finished build is written to."""
