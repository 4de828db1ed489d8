"""What a surrogate recommender must offer, and how one is built by name.

To bring your own: a module that satisfies `Surrogate`, registered in `_BUILDERS` under its name. Training
needs `sequence_loss`; influence needs `outputs`, `criterion` and named parameters; ranking needs `encode` and
`logits`. Layers must have forward-mode derivatives (not fused attention, not `nn.LSTM`) for the influence
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scoring.batching import HistoryBatch, SequenceBatch
from scoring.errors import SettingError
from scoring.losses import OutputLoss
from scoring.sasrec import SASRec, SASRecConfig
from scoring.scope import Scope, select_scope


@runtime_checkable
class Surrogate(Protocol):
    """A small sequential recommender; also an `nn.Module`."""

    @property
    def item_count(self) -> int: ...

    @property
    def criterion(self) -> OutputLoss:
        """The scoring loss as a function of `outputs`; frozen, the same function at every call."""

    def outputs(self, batch: HistoryBatch) -> Tensor:
        """[B, C], what the loss of a sample depends on; row b depends on sample b alone."""

    def encode(self, history: Tensor, lengths: Tensor) -> Tensor:
        """[B, d] from histories int64 [B, T], padded on the right with 0, and lengths int64 [B]."""

    def logits(self, encoded: Tensor) -> Tensor:
        """[B, V], the score of items 1..V; column j is item j + 1."""

    def per_sample_loss(self, batch: HistoryBatch) -> Tensor:
        """[B], `criterion` of `outputs`: the loss at the target alone."""

    def sequence_loss(self, batch: SequenceBatch, generator: torch.Generator | None) -> tuple[Tensor, int]:
        """The training loss, summed over the counted positions of the windows, and their number."""

    def config_dict(self) -> dict[str, Any]:
        """What `build_surrogate` needs to make an equal one."""

    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Named patterns of parameters to take influence over; the first is what it is taken over by default."""


def surrogate_scope(model: SASRec, patterns: Sequence[str] | None) -> Scope:
    """The parameters of a surrogate that influence is taken over.

    Parameters
    ----------
    patterns : of `select_scope`, or names among the model's `scopes()`; None is the first of those.

    Raises
    ------
    ScopeError : something matches neither.
    """
    named = model.scopes()
    wanted = patterns or (next(iter(named)),)
    return select_scope(model, [part for pattern in wanted for part in named.get(pattern, (pattern,))])


def build_surrogate(
    name: str,
    item_count: int,
    config: SASRecConfig | Mapping[str, Any],
    item_counts: Sequence[int] | Tensor | None = None,
) -> SASRec:
    """A surrogate with fresh, seeded weights.

    Parameters
    ----------
    name : `sasrec`.
    item_count : V; it takes the place of one in `config`.
    config : settings by name, or ready-made.
    item_counts : [V] train interactions of items 1..V, for sampled losses.

    Raises
    ------
    SettingError : unknown name or setting, or a setting out of range.
    """
    builder = _BUILDERS.get(name)
    if builder is None:
        raise SettingError(f"unknown surrogate {name!r}; choose one of {', '.join(sorted(_BUILDERS))}")
    settings = config.__dict__ if isinstance(config, SASRecConfig) else config
    return builder({**settings, "item_count": item_count}, item_counts)


def _build_sasrec(settings: Mapping[str, Any], item_counts: Sequence[int] | Tensor | None) -> SASRec:
    unknown = sorted(set(settings) - set(SASRecConfig.__dataclass_fields__))
    if unknown:
        raise SettingError(f"unknown setting of the surrogate: {', '.join(unknown)}")
    return SASRec(SASRecConfig(**settings), item_counts)


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Sequence[int] | Tensor | None], SASRec]] = {"sasrec": _build_sasrec}
