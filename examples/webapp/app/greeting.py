"""What the page says."""

GREETING = "Hello from an image without a daemon"
