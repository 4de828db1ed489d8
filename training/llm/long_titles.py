"""Titles that are too long for a prompt: finding them, and cutting each at a word once for all its uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from cluster.errors import UserError
from training.llm.prompts import PromptEncoder, clean_title

#: Number of tokens in which any single character fits, with its quotes and the end-of-sequence token.
LEAST_ROOM = 16
#: Number of titles per tokenizer call.
_CHUNK = 10_000
#: A cut at a space must keep at least this share of what a cut at a character would keep.
_WORTH = 0.5
# User-perceived characters: a letter with its marks, a joined emoji (Unicode, UAX 29).
_CHARACTERS = regex.compile(r"\X")


@dataclass(frozen=True)
class CutTitle:
    """A title that was too long.

    Attributes
    ----------
    row : index among the titles.
    tokens : tokens of the whole title, as counted by `PromptEncoder.title_tokens`.
    whole, shown : the clean title, and the part that is kept.
    """

    row: int
    tokens: int
    whole: str
    shown: str


def title_room(encoder: PromptEncoder, asked: int | None) -> int:
    """Return the number of tokens a title may take so that every prompt has room for its target and newest title.

    Parameters
    ----------
    asked : llm.max_title_tokens. None means the quarter of llm.max_tokens that is kept for the response, or the part
        of the prompt that the template leaves, if that is smaller. A longer title takes room from its own prompt.

    Raises `UserError` for llm.max_tokens or llm.max_title_tokens if there is not enough room.
    """
    most, kept, template = encoder.max_tokens, encoder.max_tokens - encoder.prompt_tokens, encoder.template_tokens
    room = min(kept, encoder.prompt_tokens - template) if asked is None else asked
    if asked is not None and asked < LEAST_ROOM:
        raise UserError(
            f"llm.max_title_tokens is {asked}, which is too small for one word of every title.",
            f"Set llm.max_title_tokens to {LEAST_ROOM} or more.",
        )
    if room < LEAST_ROOM:
        raise UserError(
            f"llm.max_tokens is {most} and the template takes {template}, which leaves no room for a title.",
            f"Set llm.max_tokens to {_least(template)} or more, or shorten llm.template.",
        )
    if template + room + max(room, kept) > most:
        raise UserError(
            f"llm.max_title_tokens is {room}: the template ({template} tokens), a title, and {max(room, kept)} tokens "
            f"for the answer exceed llm.max_tokens, {most}.",
            "Lower llm.max_title_tokens, or raise llm.max_tokens.",
        )
    return room


def _least(template: int) -> int:
    """Return the smallest llm.max_tokens that leaves room for a title beside a template of that many tokens."""
    return max(4 * LEAST_ROOM, -(-4 * (template + LEAST_ROOM) // 3))


def title_lengths(encoder: PromptEncoder, titles: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of tokens of each title, int64 [n]."""
    lengths = [
        tokens
        for start in range(0, len(titles), _CHUNK)
        for tokens in encoder.title_tokens(titles[start : start + _CHUNK])
    ]
    return np.array(lengths, dtype=np.int64)


def cut_titles(encoder: PromptEncoder, titles: Sequence[str], room: int) -> list[CutTitle]:
    """Return the titles that take more than `room` tokens, each with its longest beginning that fits."""
    lengths = title_lengths(encoder, titles)
    rows = np.flatnonzero(lengths > room).tolist()

    def fits(text: str) -> bool:
        return encoder.title_tokens([text])[0] <= room

    return [CutTitle(row, int(lengths[row]), whole := clean_title(titles[row]), beginning(whole, fits)) for row in rows]


def beginning(title: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning that fits of a title that does not, cut at a space.

    If the space comes so early that half of what fits would be lost, the cut is between two user-perceived characters
    instead. This happens in scripts without spaces and in titles that are one long word.
    """
    whole = _longest(_CHARACTERS.findall(title), fits) or _longest(list(title), fits)
    kept = whole.rstrip()
    if title[len(whole)] != " ":
        at_blank = whole.rpartition(" ")[0].rstrip()
        kept = at_blank if len(at_blank) >= _WORTH * len(whole) else kept
    # A tokenizer may join the cut text with the quote that follows.
    while len(kept) > 1 and not fits(kept):
        kept = kept[:-1].rstrip()
    return kept


def _longest(parts: Sequence[str], fits: Callable[[str], bool]) -> str:
    """Return as many leading parts as fit together, but not all of them.

    Adding text may save a token where two parts join, so the result depends on the search order. That order is the
    same for all texts with a common beginning, so they are cut alike.
    """

    def fit(count: int) -> bool:
        return count < len(parts) and fits("".join(parts[:count]))

    high = 1
    while fit(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return "".join(parts[:low])
