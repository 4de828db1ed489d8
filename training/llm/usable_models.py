"""Checks that a language model is usable: it must predict each next token only from the tokens before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.errors import UserError
from scoring.causality import reads_ahead
from training.llm.padding import require_padding

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

OTHER_MODEL = "Use a decoder-only language model, such as one of the Llama or Qwen families."


def check_kind(config: PreTrainedConfig, name: str) -> None:
    """Reject, from its configuration and before weights are read, a model that is not a decoder-only language model.

    Raises `UserError` for llm.model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"llm.model: {name} ({kind}) is an encoder-decoder model.", OTHER_MODEL)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        text = config.get_text_config()
        of_text = f" Its text part is a {text.model_type}." if text is not config and text.model_type else ""
        raise UserError(
            f"llm.model: {name} ({kind}) is not among the causal language models that transformers loads.{of_text}",
            OTHER_MODEL,
        )


def check_model(model: PreTrainedModel, name: str) -> None:
    """Reject, after a few short passes, a model that looks ahead or that does not mask padding.

    Raises `UserError` for llm.model.
    """
    try:
        ahead = reads_ahead(model)
    except Exception as error:  # a pass may raise anything, for example because the model expects images or sound
        raise UserError(
            f"llm.model: {name} ({_kind(model)}) fails on plain text: {first_line(error)}", OTHER_MODEL
        ) from error
    if ahead:
        raise UserError(
            f"llm.model: {name} ({_kind(model)}) is not a causal language model: its prediction at a token depends on "
            "the tokens after it.",
            f"{OTHER_MODEL} An encoder that was trained as a decoder needs is_decoder in its config.json.",
        )
    require_padding(model, name)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its class name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _kind(model: PreTrainedModel) -> str:
    return str(model.config.model_type)
