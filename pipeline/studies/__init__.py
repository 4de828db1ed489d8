"""Studies on top of runs: comparisons, audits and forecasts."""
