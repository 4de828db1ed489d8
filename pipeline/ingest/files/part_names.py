"""Which part of a split a name stands for."""

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
#: Words for what is held out that do not say for what.
UNCLEAR = frozenset({"eval", "evaluation", "holdout", "heldout"})
#: What may hang on such a word: trainset, test_data.
_TAIL = re.compile(r"(set|data|split)$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def part_in(name: str) -> str | None:
    """The part that the name of a file or folder stands for: train, valid, test, or an unclear word for one of them.

    Words are told apart by case, digits and whatever is no letter. A name with words for two parts stands for none.
    """
    words = {_TAIL.sub("", word.lower()) or word.lower() for word in _WORD.findall(name)}
    parts = {_WORDS[word] for word in words if word in _WORDS} or words & UNCLEAR
    return parts.pop() if len(parts) == 1 else None


def part_of(below: str) -> str | None:
    """The part that a file's path stands for: by its own name, else by the nearest folder that has a word for one.

    Parameters
    ----------
    below : the path of the file from the folder that the user named, with `/`.
    """
    return next((part for name in reversed(below.split("/")) if (part := part_in(name))), None)
