"""The models that recommend, and the stages that each reads."""

from __future__ import annotations

from collections.abc import Mapping

#: The stages whose results each model reads.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "llm": ("ingest", "finetune"),
    "untuned": ("ingest",),
    "surrogate": ("ingest", "surrogate"),
    "popularity": ("ingest",),
    "similarity": ("ingest",),
}
MODELS = tuple(NEEDS)
#: Models that load the language model, to generate with it or to embed titles.
LLM_MODELS = frozenset({"llm", "untuned", "similarity"})
FORMATS = ("parquet", "jsonl")
