"""Turn an interaction log, in whatever files, into sequences, samples and an item vocabulary."""
