"""From a language model's output to ranked items and metrics."""
