"""What each kind of vertex does when it has to run."""
