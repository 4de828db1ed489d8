"""What is checked before the first stage, by `run` and by `doctor` alike."""
