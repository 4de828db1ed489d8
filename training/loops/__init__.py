"""Training loops, their data, checkpoints and placement."""
