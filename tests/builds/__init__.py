"""The build cases of testdata/builds: read, given files, and their images described.

Shared by the tests and by scripts/record_builds.py, so that both look in the same way.
"""
