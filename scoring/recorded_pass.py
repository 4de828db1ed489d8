"""One forward pass over a few tokens, with the graph of its output and the module in which each node was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.hooks import RemovableHandle

from scoring.evaluation_mode import evaluation_mode

_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr


@dataclass(frozen=True)
class RecordedPass:
    """The record of a pass.

    Attributes
    ----------
    logits : [1, T, V], with their graph.
    tokens : embeddings [..., d] of lookups that end with the text; a model may look it up more than once.
    spans : first and last sequence number of every module call, and the module's name.
    outputs : for each graph node that is the output of a linear map, the map's name.
    composite : names of the maps that return more than one tensor, as some routers do.
    """

    logits: Tensor
    tokens: tuple[Tensor, ...]
    spans: tuple[tuple[int, int, str], ...]
    outputs: Mapping[Node, str]
    composite: frozenset[str]

    @property
    def executed(self) -> frozenset[str]:
        """Names of the modules that were called."""
        return frozenset(name for _, _, name in self.spans)

    def nodes(self, name: str) -> list[Node]:
        """Return the nodes of one kind that the logits depend on, in the order in which they were made."""
        found = [node for node in _walk([self.logits.grad_fn], lambda node: False) if node.name() == name]
        return sorted(found, key=lambda node: int(node._sequence_nr()))

    def nearest(self, start: Node | None, names: Sequence[str]) -> list[Node]:
        """Return the first nodes of these kinds, and linear maps, on every path back from a node."""
        stops = self._stops(names)
        return [node for node in _walk([start], stops) if stops(node)]

    def linears(self, starts: Iterable[Node | None], barriers: Sequence[str]) -> tuple[str, ...]:
        """Return the first linear maps on paths back from some nodes, not passing barriers, in execution order."""
        stops = self._stops(barriers)
        found = [node for node in _walk(starts, stops) if node in self.outputs]
        return tuple(dict.fromkeys(self.outputs[node] for node in sorted(found, key=lambda n: int(n._sequence_nr()))))

    def module_at(self, node: Node) -> str:
        """Return the innermost module during whose call the node was made."""
        number = int(node._sequence_nr())
        around = [span for span in self.spans if span[0] <= number < span[1]]
        return min(around, key=lambda span: span[1] - span[0], default=(0, 0, ""))[2]

    def _stops(self, names: Sequence[str]) -> Callable[[Node], bool]:
        return lambda node: node in self.outputs or node.name() in names


def record_pass(model: nn.Module, tokens: int, scale: Mapping[str, float] | None = None) -> RecordedPass:
    """Run a pass over a text of that many distinct tokens; `scale` multiplies the outputs of modules.

    Attention is computed step by step, so that each step has a node of its own. The model's mode, hooks and parameters
    are left unchanged.
    """
    size = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    device = next(model.parameters()).device
    # Spread over the vocabulary, since its first tokens are special ones.
    ids = torch.tensor([[(position + 1) * size // (tokens + 1) for position in range(tokens)]], device=device)
    recorder = _Recorder(model, ids, scale or {})
    try:
        with evaluation_mode(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        recorder.remove()
    return RecordedPass(
        logits, tuple(recorder.tokens), tuple(recorder.spans), recorder.outputs, frozenset(recorder.composite)
    )


class _Recorder:
    def __init__(self, model: nn.Module, ids: Tensor, scale: Mapping[str, float]) -> None:
        self.tokens: list[Tensor] = []
        self.spans: list[tuple[int, int, str]] = []
        self.outputs: dict[Node, str] = {}
        self.composite: set[str] = set()
        self._ids = ids.flatten().tolist()
        self._open: list[int] = []
        self._handles: list[RemovableHandle] = []
        wrappers = [name for name, module in model.named_modules() if _is_wrapper(module)]
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._enter))
            if isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_hook(self._embed))
            inside = any(name.startswith(f"{wrapper}.") for wrapper in wrappers)
            if not inside and (_is_wrapper(module) or _is_linear(module)):
                self._handles.append(module.register_forward_hook(self._linear(name, scale.get(name))))
            self._handles.append(module.register_forward_hook(self._leave(name)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, args: object) -> None:
        self._open.append(_sequence_number())

    def _leave(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            self.spans.append((self._open.pop(), _sequence_number(), name))

        return hook

    def _embed(self, module: nn.Module, args: tuple[object, ...], output: object) -> object:
        """Start the graph at the embeddings, whether or not any parameter is trained."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        if not output.requires_grad:
            # Copy it, because a model may modify its embeddings in place, which a graph's leaf does not allow.
            output = output.detach().requires_grad_().clone()
        if args and isinstance(args[0], Tensor) and args[0].flatten()[-len(self._ids) :].tolist() == self._ids:
            self.tokens.append(output)
        return output

    def _linear(self, name: str, scale: float | None) -> Callable[[nn.Module, object, object], object]:
        def hook(module: nn.Module, args: object, output: object) -> object:
            if not isinstance(output, Tensor):
                self.composite.add(name)
                return output
            if scale is not None:
                output = output * scale
            if output.grad_fn is not None:
                self.outputs.setdefault(output.grad_fn, name)
            return output

        return hook


def _walk(starts: Iterable[Node | None], stops: Callable[[Node], bool]) -> list[Node]:
    """Return the nodes on all paths back, each once. Paths end at the nodes where `stops` is true."""
    seen: dict[Node, None] = {}
    todo = list(starts)
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen[node] = None
        if not stops(node):
            todo += [before for before, _ in node.next_functions]
    return list(seen)


def _is_wrapper(module: nn.Module) -> bool:
    """Return whether the module adapts a linear map that it holds, as a LoRA layer does."""
    return isinstance(getattr(module, "base_layer", None), nn.Module)


def _is_linear(module: nn.Module) -> bool:
    """Return whether the module is a leaf with a weight matrix: nn.Linear, or GPT-2's transposed linear map."""
    weight = getattr(module, "weight", None)
    leaf = next(module.children(), None) is None
    return leaf and isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding)
