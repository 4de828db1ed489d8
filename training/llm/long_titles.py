"""Titles that are too long for a prompt: found, and cut at a word, once for all who see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from cluster.errors import UserError
from training.llm.prompts import PromptEncoder, clean_title

#: Room in which any character fits with its quotes and the end of the sequence.
LEAST_ROOM = 16
#: Titles that the tokenizer is given at once.
_CHUNK = 10_000
#: A cut at a blank keeps at least this share of what a cut at a character would keep.
_WORTH = 0.5
# What a reader sees as one character: a letter with its marks, a joined emoji (Unicode, UAX 29).
_CHARACTERS = regex.compile(r"\X")


@dataclass(frozen=True)
class CutTitle:
    """A title that was too long.

    Attributes
    ----------
    row : its place among the titles.
    tokens : that the whole title takes, as `PromptEncoder.title_tokens` counts them.
    whole, shown : the clean title, and what is left of it.
    """

    row: int
    tokens: int
    whole: str
    shown: str


def title_room(encoder: PromptEncoder, asked: int | None) -> int:
    """Tokens that a title may take, so that every prompt has room for the target and for the newest title.

    Parameters
    ----------
    asked : llm.max_title_tokens; None is the quarter of llm.max_tokens that is kept for the response, or what the
        template leaves of the prompt where that is less. A title of more than that quarter takes room from its prompt.

    Raises UserError naming llm.max_tokens or llm.max_title_tokens where there is not so much room.
    """
    most, kept, template = encoder.max_tokens, encoder.max_tokens - encoder.prompt_tokens, encoder.template_tokens
    room = min(kept, encoder.prompt_tokens - template) if asked is None else asked
    if asked is not None and asked < LEAST_ROOM:
        raise UserError(
            f"llm.max_title_tokens is {asked}, in which not every title has room for a word.",
            f"Set llm.max_title_tokens to {LEAST_ROOM} or more.",
        )
    if room < LEAST_ROOM:
        raise UserError(
            f"llm.max_tokens is {most}, of which the template takes {template}: no title fits beside it.",
            f"Set llm.max_tokens to {_least(template)} or more, or shorten llm.template.",
        )
    if template + room + max(room, kept) > most:
        raise UserError(
            f"llm.max_title_tokens is {room}: the template ({template} tokens), a title, and {max(room, kept)} tokens "
            f"for the answer are more than llm.max_tokens, {most}.",
            "Lower llm.max_title_tokens, or raise llm.max_tokens.",
        )
    return room


def _least(template: int) -> int:
    """The least llm.max_tokens that leaves room for a title beside a template of so many tokens."""
    return max(4 * LEAST_ROOM, -(-4 * (template + LEAST_ROOM) // 3))


def title_lengths(encoder: PromptEncoder, titles: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 [n], the tokens of each title."""
    lengths = [
        tokens
        for start in range(0, len(titles), _CHUNK)
        for tokens in encoder.title_tokens(titles[start : start + _CHUNK])
    ]
    return np.array(lengths, dtype=np.int64)


def cut_titles(encoder: PromptEncoder, titles: Sequence[str], room: int) -> list[CutTitle]:
    """The titles that take more than `room` tokens, each with its longest beginning that does not."""
    lengths = title_lengths(encoder, titles)
    rows = np.flatnonzero(lengths > room).tolist()

    def fits(text: str) -> bool:
        return encoder.title_tokens([text])[0] <= room

    return [CutTitle(row, int(lengths[row]), whole := clean_title(titles[row]), beginning(whole, fits)) for row in rows]


def beginning(title: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits of a title that does not, cut at a blank.

    Where a blank comes so early that half of what fits would be lost, as in scripts that write without blanks and in
    a title of one long word, it is cut between two characters as a reader sees them.
    """
    whole = _longest(_CHARACTERS.findall(title), fits) or _longest(list(title), fits)
    kept = whole.rstrip()
    if title[len(whole)] != " ":
        at_blank = whole.rpartition(" ")[0].rstrip()
        kept = at_blank if len(at_blank) >= _WORTH * len(whole) else kept
    # A tokenizer may join what was cut off with the quote behind it.
    while len(kept) > 1 and not fits(kept):
        kept = kept[:-1].rstrip()
    return kept


def _longest(parts: Sequence[str], fits: Callable[[str], bool]) -> str:
    """As many of the first parts as fit together, not all of them.

    More text may take a token fewer where two parts join, so what is found depends on where one looks. That is the
    same for all texts of one beginning, whatever follows: they are cut alike.
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
