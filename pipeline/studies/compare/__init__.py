"""Compare selectors on one run: tune and evaluate on every coreset alike, with paired intervals, costs and plots."""
