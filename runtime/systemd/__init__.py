"""systemd's way with cgroups: a container is a scope that systemd makes, and its limits' keeper."""
