"""A language model in two parts: the frozen layers below an adapter, and the layers that carry it.

With LoRA on the last layers alone, the output of the layers below is a function of the tokens and never changes. It is
computed once a sample, and replaces those layers in later passes. Embeddings, masks and positions are computed from the
tokens as usual, because they cost little and the upper layers need some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cluster.errors import UserError
from scoring.evaluation_mode import evaluation_mode
from training.llm.decoder_layers import decoder_layers, last_layers

Mode = Literal["whole", "below", "above"]

#: Largest difference of the two ways, relative to the logits' root mean square, by the type of the weights.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
_PROBE = 7


class Trunk:
    """The layers of a causal language model below its last `upper` decoder layers.

    The layers' `forward` is replaced in place. Outside of `above` and `states` the model computes what it did before.

    Parameters
    ----------
    model : a causal LM of transformers or a PEFT wrapper of one, whose weights are whole.
    upper : decoder layers that are not part of the trunk, at least 1 and fewer than there are.

    Raises
    ------
    UserError : the model has no more layers than `upper`, or its upper layers read more of the lower ones than the
        hidden states.
    """

    def __init__(self, model: nn.Module, upper: int) -> None:
        self._model: Any = model
        names = decoder_layers(model)
        self._last = names.index(last_layers(model, upper)[0]) - 1
        self._mode: Mode = "whole"
        self._given: Tensor | None = None
        self._taken: Tensor | None = None
        self._form: list[int | None] = [None] * len(names)
        for index, name in enumerate(names):
            layer: Any = model.get_submodule(name)
            if index <= self._last and hasattr(layer, "gradient_checkpointing"):
                # Recomputation in the backward pass would run the layer itself.
                layer.gradient_checkpointing = False
            layer.forward = self._switched(index, layer.forward)
        self._verify()

    @torch.no_grad()
    def states(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the trunk's output for R sequences, [R, L, d] in the model's type. Dropout is off.

        Parameters
        ----------
        input_ids : int64 [R, L], padded on the right, where no real token looks. States of padding mean nothing.
        lengths : int64 [R], the number of real tokens of each sequence, at least 1.
        """
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        self._mode = "below"
        try:
            with evaluation_mode(self._model):
                self._model(
                    input_ids=input_ids,
                    attention_mask=torch.ones_like(input_ids),
                    # Padding may lie beyond the last position that a model knows.
                    position_ids=torch.minimum(places, lengths[:, None] - 1),
                    use_cache=False,
                    logits_to_keep=1,
                )
            assert self._taken is not None
            return self._taken
        finally:
            self._mode, self._taken = "whole", None

    @contextmanager
    def above(self, states: Tensor) -> Iterator[None]:
        """Run the model's passes inside the block on `states` [B, T, d] in place of the trunk's own."""
        self._mode, self._given = "above", states
        try:
            yield
        finally:
            self._mode, self._given = "whole", None

    def _switched(self, index: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            runs = self._mode == "whole" or (index <= self._last) == (self._mode == "below")
            if runs:
                output = original(*args, **kwargs)
                self._form[index] = len(output) if isinstance(output, tuple) else None
                if self._mode == "below" and index == self._last:
                    self._taken = output[0] if isinstance(output, tuple) else output
                return output
            hidden = args[0] if args else kwargs["hidden_states"]
            if self._mode == "above" and index == self._last:
                hidden = self._given
            form = self._form[index]
            return hidden if form is None else (hidden, *[None] * (form - 1))

        return forward

    @torch.no_grad()
    def _verify(self) -> None:
        """Compare both ways once, since an architecture may pass more than the hidden states to its upper layers."""
        device = next(self._model.parameters()).device
        size = int(self._model.get_output_embeddings().weight.shape[0])
        ids = torch.linspace(1, size - 1, _PROBE, device=device).long()
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None], "use_cache": False}
        try:
            with evaluation_mode(self._model):
                whole = self._model(**inputs).logits.float()
                with self.above(self.states(ids[None], torch.tensor([_PROBE], device=device))):
                    parted = self._model(**inputs).logits.float()
        except (TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise _inseparable(self._model) from error
        dtype = next(self._model.parameters()).dtype
        error_ = (whole - parted).abs().max() / whole.square().mean().sqrt().clamp(min=1e-12)
        if not float(error_) <= _ROUNDING.get(dtype, 1e-1):
            raise _inseparable(self._model)


def _inseparable(model: nn.Module) -> UserError:
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__  # type: ignore[operator]
    return UserError(
        f"finetune.layers: the layers of {name} read more from those below than their hidden states, so they cannot "
        "be tuned apart.",
        "Set finetune.layers to all.",
    )
