"""What each Dockerfile instruction does to a stage."""
