"""The science: surrogate, curvature, influence, effort and selection, in pure torch and numpy."""
