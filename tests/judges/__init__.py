"""The test suites of other runtimes, run on a runtime of ours."""
