"""Ways to choose a coreset, a module each."""
