"""Surrogates by name: the built-in one, or one of your own as `module:builder`.

A builder takes (settings by name, `item_count` among them; int64 [V] train interactions of items 1..V, or None) and
returns a `scoring.surrogate_model.Surrogate` with fresh, seeded weights. Its module must be importable wherever the
run's workers are: in the checkout that a job ships, or on the PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from scoring.exceptions import ScoringError, SettingError
from scoring.sasrec import SASRec, SASRecConfig
from scoring.scope import Scope, select_scope
from scoring.surrogate_model import Surrogate

__all__ = ["Surrogate", "build_surrogate", "surrogate_scope"]

Builder = Callable[[Mapping[str, Any], Sequence[int] | Tensor | None], Surrogate]


def surrogate_scope(model: Surrogate, patterns: Sequence[str] | None) -> Scope:
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
) -> Surrogate:
    """A surrogate with fresh, seeded weights.

    Parameters
    ----------
    name : `sasrec`, or `module:builder`.
    item_count : V; it takes the place of one in `config`.
    config : settings by name, or ready-made.
    item_counts : [V] train interactions of items 1..V, for sampled losses.

    Raises
    ------
    SettingError : unknown name or setting, a setting out of range, or a builder that cannot be imported, fails or
        returns something else.
    """
    settings = config.__dict__ if isinstance(config, SASRecConfig) else config
    builder = surrogate_builder(name)
    try:
        model = builder({**settings, "item_count": item_count}, item_counts)
    except ScoringError:
        raise
    except Exception as error:
        raise SettingError(
            f"the surrogate {name!r} cannot be built with these settings: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, Surrogate):
        raise SettingError(f"the surrogate {name!r} built a {type(model).__name__}, which is no Surrogate")
    return model


def surrogate_builder(name: str) -> Builder:
    """What `build_surrogate` builds with. Raises SettingError for a name that is unknown or cannot be imported."""
    if name in _BUILDERS:
        return _BUILDERS[name]
    module, _, function = name.partition(":")
    if not function:
        raise SettingError(
            f"unknown surrogate {name!r}; choose one of {', '.join(sorted(_BUILDERS))}, or module:builder"
        )
    try:
        builder: Builder = getattr(import_module(module), function)
    except Exception as error:
        raise SettingError(f"the surrogate {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    return builder


def _build_sasrec(settings: Mapping[str, Any], item_counts: Sequence[int] | Tensor | None) -> SASRec:
    unknown = sorted(set(settings) - set(SASRecConfig.__dataclass_fields__))
    if unknown:
        raise SettingError(f"unknown setting of the surrogate: {', '.join(unknown)}")
    return SASRec(SASRecConfig(**settings), item_counts)


_BUILDERS: dict[str, Builder] = {"sasrec": _build_sasrec}
