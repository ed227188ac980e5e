"""Processes in namespaces: an OCI runtime, bundle in, process out."""
