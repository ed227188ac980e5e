"""Bytes and names on disk: blobs, layers, snapshots, image references, build records."""
