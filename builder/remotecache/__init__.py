"""The build cache outside the store: shared by machines, users and branches."""
