"""Which language models can be used at all: those that predict a text's next token from what precedes it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from scoring.causality import reads_ahead
from training.llm.padding import require_padding

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

OTHER_MODEL = "Use a decoder-only language model, such as one of the Llama or Qwen families."


def check_kind(config: PreTrainedConfig, name: str) -> None:
    """Refuse by its configuration what is no decoder-only language model of transformers, before weights are read.

    Raises UserError naming llm.model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"llm.model: {name} ({kind}) is an encoder with a decoder.", OTHER_MODEL)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        text = config.get_text_config()
        of_text = f" Its part for text is a {text.model_type}." if text is not config and text.model_type else ""
        raise UserError(
            f"llm.model: {name} ({kind}) is not among the causal language models that transformers loads.{of_text}",
            OTHER_MODEL,
        )


def check_model(model: PreTrainedModel, name: str) -> None:
    """Refuse by what it does a model that reads ahead or that does not leave padding out, in a few short passes.

    Raises UserError naming llm.model.
    """
    try:
        ahead = reads_ahead(model)
    except Exception as error:  # whatever a pass raises, for want of the images or sounds that it waits for, say
        raise UserError(
            f"llm.model: {name} ({_kind(model)}) fails on a plain text: {first_line(error)}", OTHER_MODEL
        ) from error
    if ahead:
        raise UserError(
            f"llm.model: {name} ({_kind(model)}) is no causal language model: "
            "what it predicts at a token depends on the tokens that follow.",
            f"{OTHER_MODEL} An encoder that was trained as a decoder needs is_decoder in its config.json.",
        )
    require_padding(model, name)


def first_line(error: BaseException) -> str:
    """What an exception says, without the rest of a long explanation; its class if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _kind(model: Any) -> str:
    return str(model.config.model_type)
