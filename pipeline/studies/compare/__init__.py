"""Selectors on one run: every coreset tuned on and evaluated alike, with paired intervals, costs and plots."""
