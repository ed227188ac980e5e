"""Dockerfile text to typed tree, word expansion, ignore files: no disk, no clock."""
