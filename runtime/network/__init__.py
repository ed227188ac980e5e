"""Networks of their own for containers: a namespace, and pasta or slirp4netns as the way out."""
