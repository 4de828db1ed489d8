"""Recognise which part of a split a name stands for."""

from __future__ import annotations

import re

_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
#: Words for held-out data that do not say whether it is for validation or test.
UNCLEAR = frozenset({"eval", "evaluation", "holdout", "heldout"})
#: Suffixes that such a word may have: trainset, test_data.
_TAIL = re.compile(r"(set|data|split)$")
#: Words that say nothing about what a file is about.
_COMMON = frozenset(
    {"data", "dataset", "events", "file", "interactions", "log", "part", "ratings", "reviews", "set", "split",
     "csv", "tsv", "json", "jsonl", "ndjson", "parquet", "pq", "inter", "gz", "xz", "bz", "zst"}
)  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def part_in(name: str) -> str | None:
    """Return the part that the name of a file or folder stands for: train, valid, test, or an unclear word for one.

    Words are separated by a change of case, by digits and by anything that is not a letter. A name with words for two
    parts stands for none.
    """
    words = _words(name)
    parts = {_WORDS[word] for word in words if word in _WORDS} or words & UNCLEAR
    return parts.pop() if len(parts) == 1 else None


def _words(name: str) -> set[str]:
    return {_TAIL.sub("", word.lower()) or word.lower() for word in _WORD.findall(name)}


def subject_of(name: str) -> frozenset[str]:
    """Return the words of a name that say what the file is about: `pregnancy` of `pregnancy-test-2.csv`.

    Words for parts, common words such as `log`, and the extensions are left out.
    """
    return frozenset(_words(name) - set(_WORDS) - UNCLEAR - _COMMON)


def part_of(below: str) -> str | None:
    """Return the part that a file's path stands for.

    The file's own name decides, else the nearest folder whose name contains a word for a part.

    Parameters
    ----------
    below : the path of the file relative to the folder that the user named, with `/`.
    """
    return next((part for name in reversed(below.split("/")) if (part := part_in(name))), None)
