"""All that pybuild can do, for every face of it."""
