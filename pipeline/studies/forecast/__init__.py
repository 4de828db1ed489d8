"""What a run will take, from runs of a small share of its log."""
