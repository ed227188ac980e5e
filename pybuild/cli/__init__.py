"""One module for each verb family of the command line."""
