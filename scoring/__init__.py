"""The science in pure torch and numpy: surrogate, curvature, influence, effort and selection."""
