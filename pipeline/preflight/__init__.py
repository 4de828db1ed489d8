"""The checks before the first stage, shared by `run` and `doctor`."""
