"""Input files: found, identified and read block by block."""
