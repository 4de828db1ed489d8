"""The names of the models in an evaluation's tables."""

from __future__ import annotations

UNTUNED, SURROGATE, POPULARITY, SIMILARITY = "LLM, untuned", "surrogate", "popularity", "title similarity"
