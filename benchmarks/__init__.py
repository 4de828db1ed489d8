"""Measurements of one claim each, ours against a named baseline in the same run."""
