"""Surrogates by name: the built-in one, or your own as `module:builder`.

A builder takes a mapping of settings (including `item_count`) and int64 [V] train interactions of items 1..V (or None).
It returns a `scoring.surrogate_model.Surrogate` with fresh, seeded weights. Its module must be importable wherever the
run's workers are: in the checkout that a job ships, or on the PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from torch import Tensor

from scoring.exceptions import ScoringError, SettingError
from scoring.sasrec import SASRec, SASRecConfig
from scoring.scope import Scope, select_scope
from scoring.surrogate_model import Surrogate, SurrogateSettings

__all__ = ["Surrogate", "build_surrogate", "surrogate_scope"]

Builder = Callable[[SurrogateSettings, Sequence[int] | Tensor | None], Surrogate]


def surrogate_scope(model: Surrogate, patterns: Sequence[str] | None) -> Scope:
    """Return the parameters of a surrogate over which influence is computed.

    Parameters
    ----------
    patterns : patterns for `select_scope`, or names from the model's `scopes()`; None selects the first of those.

    Raises
    ------
    ScopeError : a pattern matches neither a name nor a parameter.
    """
    named = model.scopes()
    wanted = patterns or (next(iter(named)),)
    return select_scope(model, [part for pattern in wanted for part in named.get(pattern, (pattern,))])


def build_surrogate(
    name: str,
    item_count: int,
    config: SASRecConfig | SurrogateSettings,
    item_counts: Sequence[int] | Tensor | None = None,
) -> Surrogate:
    """Build a surrogate with fresh, seeded weights.

    Parameters
    ----------
    name : `sasrec` or `module:builder`.
    item_count : V, which overrides the one in `config`.
    config : settings by name, or a complete config.
    item_counts : train interactions of items 1..V, [V], for sampled losses.

    Raises
    ------
    SettingError : the name or a setting is unknown, a setting is out of range, or the builder cannot be imported,
        fails or returns something else.
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
        raise SettingError(f"the surrogate {name!r} built a {type(model).__name__}, which is not a Surrogate")
    return model


def surrogate_builder(name: str) -> Builder:
    """Return the builder of this name. Raises `SettingError` if it is unknown or cannot be imported."""
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


def _build_sasrec(settings: SurrogateSettings, item_counts: Sequence[int] | Tensor | None) -> SASRec:
    unknown = sorted(set(settings) - set(SASRecConfig.__dataclass_fields__))
    if unknown:
        raise SettingError(f"unknown surrogate setting: {', '.join(unknown)}")
    return SASRec(SASRecConfig(**settings), item_counts)


_BUILDERS: dict[str, Builder] = {"sasrec": _build_sasrec}
