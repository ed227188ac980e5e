"""Lint rules: what a Dockerfile may say, yet had better not.

Most rules, their names and their words are BuildKit's, so that people find what they know. Each has
a page with a bad and a good example, docs/lint/<rule>.md.
"""
