"""Prompts of the LLM recommender: a history of titles in, the next title out (BIGRec, Bao et al., 2023).

Prompt and response are tokenised apart and joined, so the ids of a prompt are the same in training, in
scoring and at inference. A prompt is a head, one piece a title, and a tail that belongs to the newest
title's piece.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from training.llm.chat_template import frame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LAYOUTS = ("alpaca", "chat")
UNTITLED = "untitled"
# Tokenised before a piece and cut off again: a tokenizer that marks the start of a text marks this one.
ANCHOR = "\n"


@dataclass(frozen=True)
class Template:
    """Wording of a prompt, laid out as "alpaca" (three headed sections) or "chat" (the tokenizer's template).

    Titles are quoted and joined by `separator` after `history_prefix`; `response_prefix` heads the answer in
    the alpaca layout and has no place in the other. White space at the end of `history_prefix` is left to
    `separator`, whose own stands before every title; a separator without any gets a space.
    """

    name: str
    instruction: str
    history_prefix: str
    separator: str = ", "
    response_prefix: str = "### Response:\n"
    layout: str = "alpaca"


def _built_in(name: str, things: str, thing: str, verb: str) -> Template:
    return Template(
        name=name,
        instruction=f"Given the {things} the user has {verb}, in order, recommend the next {thing}.",
        history_prefix=f"The user has {verb} the following {things}: ",
    )


TEMPLATES: Mapping[str, Template] = {
    "neutral": _built_in("neutral", "items", "item", "chosen"),
    "movies": _built_in("movies", "movies", "movie", "watched"),
    "games": _built_in("games", "video games", "video game", "played"),
    "books": _built_in("books", "books", "book", "read"),
    "videos": _built_in("videos", "videos", "video", "watched"),
}


def load_template(template: str | Mapping[str, Any]) -> Template:
    """A built-in by name, or a mapping of Template's fields on top of the built-in `name` (or neutral).

    Raises UserError naming llm.template.
    """
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise _template_error(f"no template is called {template!r}", template, TEMPLATES)
        return TEMPLATES[template]
    known = [field.name for field in fields(Template)]
    for key, value in template.items():
        if key not in known:
            raise _template_error(f"unknown key {key!r}", key, known)
        if not isinstance(value, str):
            raise _template_error(f"{key} must be a text, not {value!r}", key, [])
    merged = replace(TEMPLATES.get(template.get("name", ""), TEMPLATES["neutral"]), **template)
    if merged.layout not in LAYOUTS:
        raise _template_error(f"unknown layout {merged.layout!r}", merged.layout, LAYOUTS)
    return merged


def _template_error(message: str, given: str, valid: Sequence[str] | Mapping[str, Any]) -> UserError:
    keys = ", ".join(field.name for field in fields(Template))
    nearest = difflib.get_close_matches(given, list(valid), n=1, cutoff=0.0)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(
        f"llm.template: {message}.",
        remedy=f"{hint}Use one of {', '.join(TEMPLATES)}, or a mapping of {keys}.",
    )


def clean_title(title: str) -> str:
    """One line in any script: control characters and line breaks become spaces, double quotes single ones."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in title)
    return " ".join(kept.replace('"', "'").split()) or UNTITLED


def render_response(title: str) -> str:
    """The text the LLM learns to produce for a title, without the end-of-sequence token."""
    return f'"{clean_title(title)}"'


def parse_response(text: str) -> str:
    """The title in a generated text: what stands in the first quotes, else the first line, else nothing."""
    line = next((part for part in text.splitlines() if part.strip()), "")
    before, *quoted = line.split('"')
    if before.strip() and len(quoted) == 1:
        return before.strip()
    return next((part.strip() for part in quoted if part.strip()), before.strip())


def render(template: Template, history: Sequence[str], target: str | None = None) -> str:
    """The text of a prompt in the alpaca layout, followed by the response if a target title is given."""
    head, tail = _alpaca(template)
    gap, join = _joints(template)
    titles = [f'"{clean_title(title)}"' for title in history]
    pieces = [f"{gap}{title}{join}" for title in titles[:-1]] + [f"{gap}{title}" for title in titles[-1:]]
    return head + "".join(pieces) + tail + (render_response(target) if target is not None else "")


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt and, from `response_start` on, of its response with the end-of-sequence token."""

    input_ids: list[int]
    response_start: int

    @property
    def response_tokens(self) -> int:
        return len(self.input_ids) - self.response_start


@dataclass(frozen=True)
class RenderedPrompt:
    """The very text that `EncodedPrompt` holds the ids of, whole and in the parts that other tools ask for.

    Attributes
    ----------
    instruction, input, output : what to do, the history, and the response.
    turn : what the user says: the whole prompt in the alpaca layout, the user's turn in the chat layout.
    text : prompt and response, markup of the chat template included; without the tokenizer's leading tokens and
        without the end-of-sequence token.
    """

    instruction: str
    input: str
    output: str
    turn: str
    text: str


class PromptEncoder:
    """Encodes histories and targets given as item indices; `titles[0]` is padding and never read.

    At most `max_items` newest items are shown. A prompt gets `max_tokens` less a quarter, which is kept for
    the response so that the prompt does not depend on the target; what exceeds it drops the oldest items
    first. A target longer than the quarter takes room from its own prompt. Titles are taken as they are: what is too
    long for any prompt is cut beforehand, once for all who see it (`training.llm.long_titles`).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        titles: Sequence[str],
        max_items: int,
        max_tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.titles = titles
        self.max_items = max_items
        self.max_tokens = max_tokens
        self._prompt_tokens = max_tokens - max_tokens // 4
        self._markup = _markup_pattern(tokenizer)
        self._anchor: list[int] = self._ids(ANCHOR)
        self._gap, self._join = _joints(template)
        self._opening, self._tail = _alpaca(template) if template.layout == "alpaca" else _chat(template, tokenizer)
        self._head = (leading_ids(tokenizer) if template.layout == "alpaca" else []) + self._ids(self._opening)
        self._inner: dict[int, list[int]] = {}
        self._newest: dict[int, list[int]] = {}
        self._response: dict[int, list[int]] = {}
        self._empty = self._continuation(self._tail)

    def encode(self, history: Sequence[int], target: int | None = None) -> EncodedPrompt:
        """Raises UserError naming llm.max_tokens if the template and the target alone exceed it."""
        response = [] if target is None else self.response_ids(int(target))
        prompt = self._prompt_ids(self._shown(history, len(response)))
        if len(prompt) + len(response) > self.max_tokens:
            title = "" if target is None else f' and the title "{self._title(int(target))[:60]}" {len(response)}'
            raise UserError(
                f"llm.max_tokens is {self.max_tokens}: the template takes {len(prompt)} tokens{title}.",
                remedy="Raise llm.max_tokens, or shorten llm.template or the title.",
            )
        return EncodedPrompt(prompt + response, len(prompt))

    def render(self, history: Sequence[int], target: int) -> RenderedPrompt:
        """The text of `encode(history, target)`: the same items, cut in the same place."""
        output = f'"{self._title(target)}"'
        titles = [f'{self._gap}"{self._title(item)}"' for item in self._shown(history, len(self.response_ids(target)))]
        shown = self._join.join(titles)
        template = self.template
        asked = f"{template.history_prefix.rstrip()}{shown}"
        prompt = f"{self._opening}{shown}{self._tail}"
        turn = prompt if template.layout == "alpaca" else f"{template.instruction}\n\n{asked}".lstrip()
        return RenderedPrompt(template.instruction, asked, output, turn, prompt + output)

    def response_ids(self, item: int) -> list[int]:
        """Ids of the item's quoted title and the end-of-sequence token."""
        ids = self._response.get(item)
        if ids is None:
            ids = [*self._continuation(f'"{self._title(item)}"'), self.tokenizer.eos_token_id]
            self._response[item] = ids
        return ids

    @property
    def template_tokens(self) -> int:
        """Tokens of a prompt without any title."""
        return len(self._head) + len(self._empty)

    @property
    def prompt_tokens(self) -> int:
        """Tokens that a prompt may have."""
        return self._prompt_tokens

    def title_tokens(self, titles: Sequence[str]) -> list[int]:
        """For each title the tokens that it takes, in quotes: as a response with the end-of-sequence token, or as the
        only one of a history beside what the template takes, whichever is more."""
        shown = [self._shielded(title) for title in titles]
        responses = self._continuations([f'"{title}"' for title in shown])
        newest = self._continuations([f'{self._gap}"{title}"{self._tail}' for title in shown])
        return [max(r + 1, n - len(self._empty)) for r, n in zip(responses, newest, strict=True)]

    def _shown(self, history: Sequence[int], response: int) -> list[int]:
        """The newest items that fit beside a response of so many tokens, oldest first."""
        items = [int(item) for item in history[-self.max_items :]]
        room = min(self._prompt_tokens, self.max_tokens - response) - len(self._head)
        pieces = (
            self._piece(self._inner, item, self._join) if place else self._piece(self._newest, item, self._tail)
            for place, item in enumerate(reversed(items))
        )
        count = 0
        for piece in pieces:
            room -= len(piece)
            if room < 0:
                break
            count += 1
        return items[len(items) - count :]

    def _prompt_ids(self, items: list[int]) -> list[int]:
        """Head, items and tail; just head and tail if there are none."""
        if not items:
            return self._head + self._empty
        inner = (token for item in items[:-1] for token in self._piece(self._inner, item, self._join))
        return [*self._head, *inner, *self._piece(self._newest, items[-1], self._tail)]

    def _piece(self, cache: dict[int, list[int]], item: int, closing: str) -> list[int]:
        ids = cache.get(item)
        if ids is None:
            ids = cache[item] = self._continuation(f'{self._gap}"{self._title(item)}"{closing}')
        return ids

    def _title(self, item: int) -> str:
        return self._shielded(self.titles[item])

    def _shielded(self, title: str) -> str:
        """The clean title, with what the tokenizer would read as one of its special tokens pulled apart."""
        return self._markup.sub(lambda match: f"{match[0][:1]} {match[0][1:]}", clean_title(title))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _continuation(self, text: str) -> list[int]:
        """Ids of a text that follows another one."""
        ids = self._ids(ANCHOR + text)
        count = len(self._anchor)
        return ids[count:] if ids[:count] == self._anchor else self._ids(text)

    def _continuations(self, texts: list[str]) -> list[int]:
        """How many ids `_continuation` gives of each text, from one call of the tokenizer."""
        if not texts:
            return []
        count = len(self._anchor)
        rows = self.tokenizer([ANCHOR + text for text in texts], add_special_tokens=False).input_ids
        return [
            len(ids) - count if ids[:count] == self._anchor else len(self._ids(text))
            for ids, text in zip(rows, texts, strict=True)
        ]


def _alpaca(template: Template) -> tuple[str, str]:
    head = f"### Instruction:\n{template.instruction}\n\n### Input:\n{template.history_prefix.rstrip()}"
    return head, f"\n\n{template.response_prefix}"


def _chat(template: Template, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    # Most templates strip what the user says.
    turn = f"{template.instruction}\n\n{template.history_prefix.rstrip()}".lstrip()
    gap, join = _joints(template)
    before, after = frame(tokenizer, f'{turn}{gap}"A\'s 1st"{join}{gap}"Ünd <b> & 千与"')
    return f"{before}{turn}", after


def _joints(template: Template) -> tuple[str, str]:
    """What stands before a quoted title (white space) and after one that is not the newest."""
    join = template.separator.rstrip()
    return template.separator[len(join) :] or " ", join


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text, such as Llama's beginning of sequence."""
    plain = list(tokenizer("a", add_special_tokens=False).input_ids)
    full = list(tokenizer("a").input_ids)
    starts = (i for i in range(len(full)) if full[i : i + len(plain)] == plain)
    return full[: next(starts, 0)]


def _markup_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    words = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    long = sorted((word for word in words if len(word.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long)) or r"(?!)")
