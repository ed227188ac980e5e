"""A page about a build, complete in one HTML file: nothing is loaded from anywhere."""
