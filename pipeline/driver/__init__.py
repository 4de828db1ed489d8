"""Bring a run directory up to date: open it, check, execute stages, and show what came out."""
