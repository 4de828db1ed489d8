"""The language model: loading, prompts, adapters, and what it can be used for."""
