"""The OCI distribution protocol and plain downloads."""
