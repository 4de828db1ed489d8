"""Finding the attention layers of a causal language model and their projections by function rather than by name.

Attention is a matrix product of weights, made by a softmax over tokens, with values. A short pass through the model
records the graph of its output. Reading the graph backwards leads from each such product to the linear maps that
produce its values, and the queries and keys behind its weights. So it does not matter how a model names, orders, fuses
or shares its maps, which other layers stand between them, or what else (a gate, a router, a convolution) acts on a
token. Parts that text does not pass through, such as a vision tower, are not in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import Node

from scoring.exceptions import NoAttentionError, ScoringError
from scoring.recorded_pass import RecordedPass, record_pass

_SOFTMAX = ("SoftmaxBackward0", "SafeSoftmaxBackward0")
_PRODUCTS = ("BmmBackward0", "BaddbmmBackward0", "MmBackward0", "AddmmBackward0")
#: A prime, so that an axis of this many tokens is not mistaken for another axis of a usual model.
_TOKENS = 13
#: The length of a second pass, in which token axes have another length and axes of experts do not.
_MORE_TOKENS = 17


@dataclass(frozen=True)
class Attention:
    """One attention layer. Maps are given by module name; fused maps appear in several places.

    Attributes
    ----------
    module : module in which the values are weighted.
    query, key : maps that produce the weights; empty if none is a linear map.
    value : maps without which values would be zero; in another layer if that layer's values are reused.
    """

    module: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]

    @property
    def fused(self) -> str:
        """Name what one map returns together with the values: "qkv", "kv" or ""."""
        with_key = set(self.value) & set(self.key)
        return ("qkv" if with_key & set(self.query) else "kv") if with_key else ""


@dataclass(frozen=True)
class Structure:
    """The attention layers that text passes through, each once, in the order of their last execution.

    Attributes
    ----------
    attention : at least one layer.
    layers : names of the decoder layers, including those without attention.
    other_kinds : for every decoder layer without attention that text passes through, its distinguishing class.
    """

    attention: tuple[Attention, ...]
    layers: tuple[str, ...]
    other_kinds: tuple[str, ...]

    @property
    def value(self) -> tuple[str, ...]:
        """The value maps of the last attention layer, a single one in most models."""
        return self.attention[-1].value

    @property
    def targets(self) -> tuple[str, ...]:
        """Query and value maps of all attention layers, without repetition."""
        return tuple(dict.fromkeys(name for layer in self.attention for name in (*layer.query, *layer.value)))


def find_structure(model: nn.Module) -> Structure:
    """Find the attention layers of a causal language model in one pass over a few tokens.

    If values come from several maps, a few more passes follow, since maps without whose output no value is zero only
    weight what the others give. `model(input_ids=[1, 13], use_cache=False)` must return an object with `logits`.
    Inside a wrapper such as a LoRA layer, the wrapper's own name is given.

    Raises `NoAttentionError` if nothing weights tokens by a softmax, and `ScoringError` if values come from no linear
    map.
    """
    found = _attention_products(model)
    if not found:
        raise NoAttentionError(f"{_class_name(model)} has no attention: nothing in it weights tokens by a softmax")
    shares = _shares(model, found)
    last: dict[str, Attention] = {}
    known: set[str] = set()
    for product in found:
        value = _essential(product.value, shares.get(product.index, {}))
        # Reused values belong to another layer; anything else reached from here is the residual stream.
        if not value or any(name not in known and _layer_of(name) != _layer_of(product.module) for name in value):
            raise ScoringError(f"the values of {product.module} of {_class_name(model)} come from no linear map")
        known.update(value)
        attention = Attention(product.module, product.query, product.key, value)
        earlier = last.pop(product.module, None)
        last[product.module] = attention if earlier is None else _union(earlier, attention)
    layers, other = _decoder_layers(model, list(last))
    return Structure(tuple(last.values()), layers, other)


@dataclass(frozen=True)
class _Product:
    """Weights times values, with its index among the pass's products; `width` is the length of the weights' axis."""

    index: int
    width: int
    module: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]
    values: Tensor


def _attention_products(model: nn.Module) -> list[_Product]:
    """Return the products of a pass that weight tokens: their weights' axis grows with the text."""
    found = _products(record_pass(model, _TOKENS))
    if all(product.width == _TOKENS for product in found):
        return found
    longer = _products(record_pass(model, _MORE_TOKENS))
    if len(longer) != len(found):
        return [product for product in found if product.width == _TOKENS]
    return [one for one, other in zip(found, longer, strict=True) if one.width != other.width]


def _products(record: RecordedPass) -> list[_Product]:
    """Return all products with a softmax over at least that many entries, including experts and streams."""
    found: list[_Product] = []
    for node in record.nodes("BmmBackward0"):
        for side, saved_values in ((0, "_saved_mat2"), (1, "_saved_self")):
            weights, values = node.next_functions[side][0], node.next_functions[1 - side][0]
            softmax = [n for n in record.nearest(weights, (*_PRODUCTS, *_SOFTMAX)) if _width(n) >= _TOKENS]
            saved = getattr(node, saved_values)
            if not softmax or values is None or saved is None:
                continue
            scores = [n for s in softmax for n in record.nearest(s.next_functions[0][0], _PRODUCTS)]
            operands = [n.next_functions[-2:] for n in scores if n.name() in _PRODUCTS[:2]]
            found.append(
                _Product(
                    len(found),
                    _width(softmax[0]),
                    record.module_at(node),
                    record.linears([left[0] for left, _ in operands], _SOFTMAX + _PRODUCTS[:2]),
                    record.linears([right[0] for _, right in operands], _SOFTMAX + _PRODUCTS[:2]),
                    record.linears([values], _SOFTMAX + _PRODUCTS[:2]),
                    saved.detach(),
                )
            )
            break
    return found


def _width(node: Node) -> int:
    """Return the length of a softmax's axis; 0 for other nodes."""
    if node.name() not in _SOFTMAX:
        return 0
    axis = int(node._saved_dim)  # type: ignore[attr-defined]
    # The graph stores a negative axis as an unsigned number.
    return int(node._saved_result.shape[axis - 2**64 if axis >= 2**63 else axis])  # type: ignore[attr-defined]


def _shares(model: nn.Module, found: list[_Product]) -> dict[int, dict[str, float]]:
    """Return, for each product whose values come from several maps, the share of values that is zero without each."""
    mixed = [product for product in found if len(product.value) > 1]
    shares: dict[int, dict[str, float]] = {product.index: {} for product in mixed}
    for turn in range(max((len(product.value) for product in mixed), default=0)):
        silent = {product.value[turn]: 0.0 for product in mixed if turn < len(product.value)}
        again = {product.index: product.values for product in _products(record_pass(model, _TOKENS, silent))}
        for product in mixed:
            values = again.get(product.index)
            if turn < len(product.value) and values is not None and values.shape == product.values.shape:
                lost = (values == 0) & (product.values != 0)
                shares[product.index][product.value[turn]] = float(lost.float().mean())
    return shares


def _essential(maps: tuple[str, ...], shares: dict[str, float]) -> tuple[str, ...]:
    """Return the maps without which some values are zero; all maps if a shift or bias prevents zeros."""
    return tuple(name for name in maps if shares.get(name, 0.0) > 0) or maps


def _union(one: Attention, other: Attention) -> Attention:
    """Combine two products of a module that weights values in several."""
    return Attention(
        one.module,
        tuple(dict.fromkeys(one.query + other.query)),
        tuple(dict.fromkeys(one.key + other.key)),
        tuple(dict.fromkeys(one.value + other.value)),
    )


def _decoder_layers(model: nn.Module, attention: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the members of the outermost lists that hold attention, and the class of each member without attention."""
    attending = {model.get_submodule(name) for name in attention}
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = {n: m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    layers = {
        f"{name}.{index}": layer
        for name, module in outermost.items()
        if attending & set(module.modules())
        for index, layer in enumerate(module)
    }
    having = [layer for layer in layers.values() if attending & set(layer.modules())]
    common = {type(module) for layer in having for module in layer.modules()}
    other = []
    for layer in layers.values():
        if layer not in having:
            other.append(next((type(m) for m in layer.children() if type(m) not in common), type(layer)).__name__)
    return tuple(layers), tuple(other)


def _layer_of(name: str) -> str:
    """Return a module's name up to its first index into a list."""
    parts = name.split(".")
    first = next((index for index, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: first + 1])


def _class_name(model: nn.Module) -> str:
    """Return the class name of a model, inside a wrapper such as PEFT's."""
    base = getattr(model, "get_base_model", None)
    return type(model if base is None else base()).__name__
