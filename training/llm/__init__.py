"""The language model: loading, adapting and checking it, and what it reads."""
