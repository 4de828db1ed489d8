"""Prompts of the LLM recommender: a history of titles in, the next title out (BIGRec, Bao et al., 2023).

Prompt and response are tokenised separately and joined, so a prompt's ids are the same in training, scoring and
inference. A prompt is a head, one piece per title, and a tail that belongs to the newest title's piece.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from cluster.errors import UserError
from training.llm.chat_template import frame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LAYOUTS = ("alpaca", "chat")
UNTITLED = "untitled"
# Tokenised before a piece and removed again, for tokenizers that mark the start of a text.
ANCHOR = "\n"


@dataclass(frozen=True)
class Template:
    """The wording of a prompt, laid out as "alpaca" (three headed sections) or "chat" (the tokenizer's template).

    Titles are quoted and joined by `separator` after `history_prefix`. `response_prefix` heads the answer in the
    alpaca layout and is not used in the other. Trailing white space of `history_prefix` is dropped in favour of the
    separator's own, which precedes every title; a separator without white space gets a space.
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


def load_template(template: str | Mapping[str, object]) -> Template:
    """Return a built-in template by name, or fields of `Template` applied to the built-in `name` (default neutral).

    Raises `UserError` for llm.template.
    """
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise _template_error(f"there is no template named {template!r}", template, TEMPLATES)
        return TEMPLATES[template]
    known = [field.name for field in fields(Template)]
    given: dict[str, str] = {}
    for key, value in template.items():
        if key not in known:
            raise _template_error(f"unknown key {key!r}", key, known)
        if not isinstance(value, str):
            raise _template_error(f"{key} must be a string, got {value!r}", key, [])
        given[key] = value
    merged = replace(TEMPLATES.get(given.get("name", ""), TEMPLATES["neutral"]), **given)
    if merged.layout not in LAYOUTS:
        raise _template_error(f"unknown layout {merged.layout!r}", merged.layout, LAYOUTS)
    return merged


def _template_error(message: str, given: str, valid: Iterable[str]) -> UserError:
    keys = ", ".join(field.name for field in fields(Template))
    nearest = difflib.get_close_matches(given, list(valid), n=1, cutoff=0.0)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return UserError(
        f"llm.template: {message}.",
        remedy=f"{hint}Use one of {', '.join(TEMPLATES)}, or a mapping of {keys}.",
    )


def clean_title(title: str) -> str:
    """Put a title on one line: control characters and line breaks become spaces, double quotes become single ones."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in title)
    return " ".join(kept.replace('"', "'").split()) or UNTITLED


def render_response(title: str) -> str:
    """Return the text that the LLM learns to produce for a title, without the end-of-sequence token."""
    return f'"{clean_title(title)}"'


def parse_response(text: str) -> str:
    """Extract the title from a generated text: the first quoted text, otherwise the first line, otherwise nothing."""
    line = next((part for part in text.splitlines() if part.strip()), "")
    before, *quoted = line.split('"')
    if before.strip() and len(quoted) == 1:
        return before.strip()
    return next((part.strip() for part in quoted if part.strip()), before.strip())


def render(template: Template, history: Sequence[str], target: str | None = None) -> str:
    """Render a prompt in the alpaca layout, followed by the response if a target title is given."""
    head, tail = _alpaca(template)
    gap, join = _joints(template)
    titles = [f'"{clean_title(title)}"' for title in history]
    pieces = [f"{gap}{title}{join}" for title in titles[:-1]] + [f"{gap}{title}" for title in titles[-1:]]
    return head + "".join(pieces) + tail + (render_response(target) if target is not None else "")


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt followed, from `response_start`, by its response and the end-of-sequence token."""

    input_ids: list[int]
    response_start: int

    @property
    def response_tokens(self) -> int:
        return len(self.input_ids) - self.response_start


@dataclass(frozen=True)
class RenderedPrompt:
    """The text whose ids `EncodedPrompt` holds, as a whole and in the parts that other tools expect.

    Attributes
    ----------
    instruction, input, output : the task, the history, and the response.
    turn : the user's message: the whole prompt in the alpaca layout, the user's turn in the chat layout.
    text : prompt and response including the chat template's markup, without the tokenizer's leading tokens and
        without the end-of-sequence token.
    """

    instruction: str
    input: str
    output: str
    turn: str
    text: str


@dataclass(frozen=True)
class PromptParts:
    """The texts that a prompt is put together from, each tokenised by itself.

    A prompt is `leading`, `opening`, then for each title but the newest `gap`, the title in double quotes and `join`,
    and for the newest `gap`, the quoted title and `tail`. Every text but the opening is tokenised after `anchor`, whose
    tokens are then removed.

    Attributes
    ----------
    leading : ids of the special tokens that precede the text.
    prompt_tokens : the most tokens of a prompt; the oldest titles are dropped until it fits.
    """

    leading: list[int]
    opening: str
    gap: str
    join: str
    tail: str
    anchor: str
    max_items: int
    prompt_tokens: int


class PromptEncoder:
    """Encodes histories and targets given as item indices. `titles[0]` is padding and never read.

    A prompt shows at most the `max_items` newest items. It gets `max_tokens` minus a quarter, which is reserved for
    the response so that the prompt does not depend on the target. If it exceeds that, the oldest items are dropped
    first. A target longer than the quarter takes room from its own prompt. Titles are used as given: those too long
    for any prompt are cut beforehand, once for all uses (`training.llm.long_titles`).
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
        self._leading = leading_ids(tokenizer) if template.layout == "alpaca" else []
        self._head = self._leading + self._ids(self._opening)
        self._inner: dict[int, list[int]] = {}
        self._newest: dict[int, list[int]] = {}
        self._response: dict[int, list[int]] = {}
        self._empty = self._continuation(self._tail)

    def encode(self, history: Sequence[int], target: int | None = None) -> EncodedPrompt:
        """Encode a history and an optional target. Raises `UserError` if template and target exceed llm.max_tokens."""
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
        """Return the text of `encode(history, target)`, with the same items."""
        output = f'"{self._title(target)}"'
        titles = [f'{self._gap}"{self._title(item)}"' for item in self._shown(history, len(self.response_ids(target)))]
        shown = self._join.join(titles)
        template = self.template
        asked = f"{template.history_prefix.rstrip()}{shown}"
        prompt = f"{self._opening}{shown}{self._tail}"
        turn = prompt if template.layout == "alpaca" else f"{template.instruction}\n\n{asked}".lstrip()
        return RenderedPrompt(template.instruction, asked, output, turn, prompt + output)

    def response_ids(self, item: int) -> list[int]:
        """Return the ids of the item's quoted title and the end-of-sequence token."""
        ids = self._response.get(item)
        if ids is None:
            ids = [*self._continuation(f'"{self._title(item)}"'), self.tokenizer.eos_token_id]
            self._response[item] = ids
        return ids

    @property
    def parts(self) -> PromptParts:
        """The texts of a prompt, for those who build it without this class."""
        texts = (self._opening, self._gap, self._join, self._tail, ANCHOR)
        return PromptParts(self._leading, *texts, self.max_items, self._prompt_tokens)

    def shown_title(self, item: int) -> str:
        """Return the title as prompts and responses quote it."""
        return self._title(item)

    @property
    def template_tokens(self) -> int:
        """Number of tokens of a prompt without titles."""
        return len(self._head) + len(self._empty)

    @property
    def prompt_tokens(self) -> int:
        """Maximum number of tokens of a prompt."""
        return self._prompt_tokens

    def title_tokens(self, titles: Sequence[str]) -> list[int]:
        """Return the number of tokens that each title takes in quotes: the larger of its length as a response with the
        end-of-sequence token, and of what it adds to the template as the only title of a history."""
        shown = [self._shielded(title) for title in titles]
        responses = self._continuations([f'"{title}"' for title in shown])
        newest = self._continuations([f'{self._gap}"{title}"{self._tail}' for title in shown])
        return [max(r + 1, n - len(self._empty)) for r, n in zip(responses, newest, strict=True)]

    def _shown(self, history: Sequence[int], response: int) -> list[int]:
        """Return the newest items that fit beside a response of that many tokens, oldest first."""
        items = [int(item) for item in history[-self.max_items :]]
        room = min(self._prompt_tokens, self.max_tokens - response) - len(self._head)
        pieces = (
            self._piece(self._inner, item, self._join) if age else self._piece(self._newest, item, self._tail)
            for age, item in enumerate(reversed(items))
        )
        count = 0
        for piece in pieces:
            room -= len(piece)
            if room < 0:
                break
            count += 1
        return items[len(items) - count :]

    def _prompt_ids(self, items: list[int]) -> list[int]:
        """Return the ids of head, items and tail; only head and tail if there are no items."""
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
        """Return the clean title, splitting anything that the tokenizer would read as a special token."""
        return self._markup.sub(lambda match: f"{match[0][:1]} {match[0][1:]}", clean_title(title))

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _continuation(self, text: str) -> list[int]:
        """Return the ids of a text that follows another one."""
        ids = self._ids(ANCHOR + text)
        count = len(self._anchor)
        return ids[count:] if ids[:count] == self._anchor else self._ids(text)

    def _continuations(self, texts: list[str]) -> list[int]:
        """Return the number of ids that `_continuation` gives for each text, with one call of the tokenizer."""
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
    # Most templates strip the user's message.
    turn = f"{template.instruction}\n\n{template.history_prefix.rstrip()}".lstrip()
    gap, join = _joints(template)
    before, after = frame(tokenizer, f'{turn}{gap}"A\'s 1st"{join}{gap}"Ünd <b> & 千与"')
    return f"{before}{turn}", after


def _joints(template: Template) -> tuple[str, str]:
    """Return what precedes a quoted title (white space), and what follows one that is not the newest."""
    join = template.separator.rstrip()
    return template.separator[len(join) :] or " ", join


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the special tokens that the tokenizer puts before a text, such as Llama's beginning of sequence."""
    plain = list(tokenizer("a", add_special_tokens=False).input_ids)
    full = list(tokenizer("a").input_ids)
    starts = (i for i in range(len(full)) if full[i : i + len(plain)] == plain)
    return full[: next(starts, 0)]


def _markup_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    words = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    long = sorted((word for word in words if len(word.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long)) or r"(?!)")
