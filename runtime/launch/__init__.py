"""The chain of processes from launcher to container; small stdlib modules only."""
