"""From an interaction log, in whatever files, to sequences, samples and an item vocabulary."""
