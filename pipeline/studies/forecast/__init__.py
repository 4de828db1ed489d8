"""Forecast what a run will take, from runs on a small share of its log."""
