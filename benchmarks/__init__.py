"""Ratios against what a user would do instead, measured in one run."""
