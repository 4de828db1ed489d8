"""Splitting a tokenizer's chat template into what precedes and what follows the user's message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from cluster.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Placeholder for the user's message while a chat template is split.
SLOT = "USERTURN"
# "Today" for chat templates that print the date: a prompt must not depend on the day it is made.
DATE = "26 Jul 2024"
# Prefix that overrides the template's date function; the plus sign keeps the template's first line unchanged.
_FIXED_DATE = f"{{% macro strftime_now(format) %}}{DATE}{{% endmacro +%}}"
_REMEDY = (
    "Omit llm.template.layout or set it to alpaca, which uses no chat template; or set llm.model to a model whose chat "
    "template accepts a user message on its own."
)

#: A message's content: text, or the parts that templates of models with image input expect.
TurnContent: TypeAlias = str | list[dict[str, str]]


def frame(tokenizer: PreTrainedTokenizerBase, example: str) -> tuple[str, str]:
    """Return what the template writes before and after a user's message, up to where the answer begins.

    There is no system message, since some templates reject one and others write their own.

    Parameters
    ----------
    example : a typical message. The template must print it unchanged, once, in the same frame.

    Raises `UserError` if the template rejects the message, quoting its reason, or changes it.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "llm.template: the layout is chat, but the tokenizer of llm.model has no chat template.",
            remedy="Set llm.template.layout to alpaca, or llm.model to a model tuned for chat.",
        )
    fault: UserError | None = None
    wraps: tuple[Callable[[str], TurnContent], ...] = (_as_text, _as_parts)
    for wrap in wraps:
        try:
            return _frame(tokenizer, wrap, example)
        except UserError as error:
            # The user cares about the error with plain text, so report the first one.
            fault = fault or error
    assert fault is not None
    raise fault


def _as_text(text: str) -> TurnContent:
    """Return a message's content in the form that most templates expect."""
    return text


def _as_parts(text: str) -> TurnContent:
    """Return a message's content in the form that templates of models with image input expect."""
    return [{"type": "text", "text": text}]


def _frame(tokenizer: PreTrainedTokenizerBase, wrap: Callable[[str], TurnContent], example: str) -> tuple[str, str]:
    before, slot, after = _render(tokenizer, wrap(SLOT)).partition(SLOT)
    if not slot:
        raise UserError("llm.template: the chat template of llm.model does not print the user's message.", _REMEDY)
    if SLOT in after:
        raise UserError("llm.template: the chat template of llm.model prints the user's message twice.", _REMEDY)
    if _render(tokenizer, wrap(example)) != f"{before}{example}{after}":
        raise UserError(
            "llm.template: the chat template of llm.model does not print the user's message unchanged: it alters "
            "titles or the words around them.",
            _REMEDY,
        )
    return before, after


def _render(tokenizer: PreTrainedTokenizerBase, content: TurnContent) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=_FIXED_DATE + tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=True,
                date_string=DATE,
            )
        )
    except Exception as error:  # a template is a program by the model's author and may fail in any way
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"llm.template: the chat template of llm.model rejects a user message: {reason.rstrip('.')}.", _REMEDY
        ) from error
