"""The chat template of a tokenizer, taken apart: what stands before and after that which the user says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for the user's turn while a chat template is taken apart.
SLOT = "USERTURN"
# Today, for chat templates that print it: a prompt must not depend on the day on which it is made.
DATE = "26 Jul 2024"
# Stands before a template, whose own call it takes; the plus keeps the template's first line as it is.
_FIXED_DATE = f"{{% macro strftime_now(format) %}}{DATE}{{% endmacro +%}}"
_REMEDY = (
    "Leave llm.template.layout out, or set it to alpaca, which takes no chat template; or set llm.model to a model "
    "whose chat template takes a user's turn alone."
)


def frame(tokenizer: PreTrainedTokenizerBase, example: str) -> tuple[str, str]:
    """What the template writes before a user's turn and after it, up to where the answer begins.

    There is no system message: some templates refuse one, and others write one of their own.

    Parameters
    ----------
    example : a turn as prompts have it; the template must print it as it is, once, in the same frame.

    Raises UserError with the template's own words where it refuses the turn, and where it changes it.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "llm.template: the layout is chat, but the tokenizer of llm.model has no chat template.",
            remedy="Set llm.template.layout to alpaca, or llm.model to a model tuned for chat.",
        )
    fault: UserError | None = None
    for wrap in (_plain, _parts):
        try:
            return _frame(tokenizer, wrap, example)
        except UserError as error:
            # What is wrong with a plain text is what a user wants to know.
            fault = fault or error
    assert fault is not None
    raise fault


def _plain(text: str) -> Any:
    """A turn's content as most templates take it."""
    return text


def _parts(text: str) -> Sequence[dict[str, str]]:
    """A turn's content as templates take it whose model sees pictures too."""
    return [{"type": "text", "text": text}]


def _frame(tokenizer: PreTrainedTokenizerBase, wrap: Any, example: str) -> tuple[str, str]:
    before, slot, after = _render(tokenizer, wrap(SLOT)).partition(SLOT)
    if not slot:
        raise UserError("llm.template: the chat template of llm.model does not print what the user says.", _REMEDY)
    if SLOT in after:
        raise UserError("llm.template: the chat template of llm.model prints what the user says twice.", _REMEDY)
    if _render(tokenizer, wrap(example)) != f"{before}{example}{after}":
        raise UserError(
            "llm.template: the chat template of llm.model does not print what the user says as it is said: it changes "
            "titles, or the words around them.",
            _REMEDY,
        )
    return before, after


def _render(tokenizer: PreTrainedTokenizerBase, content: Any) -> str:
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
    except Exception as error:  # a template is a program of the model's author, which may fail in any way
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"llm.template: the chat template of llm.model refuses a user's turn: {reason.rstrip('.')}.", _REMEDY
        ) from error
