"""The settings of selectors: each group of keys, its types, ranges and defaults, defined once.

A selector names its group in its class attribute `Settings`. The flat keys of the config's section `select` are those
of `BuiltInSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from scoring.exceptions import SettingError
from scoring.setting_faults import setting_faults
from scoring.settings import Section


class SelectorSettings(Section):
    """The settings of one selector. A subclass annotates them: `days: float = Field(30.0, gt=0)`."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the keys as a config writes them."""
        return tuple(field.alias or key for key, field in cls.model_fields.items())

    def values(self) -> dict[str, Any]:
        """Return JSON-ready values by those keys."""
        return self.model_dump(mode="json", by_alias=True)


class EffortWeightSettings(SelectorSettings):
    """The weight of effort in a sum."""

    lambda_: float = Field(
        0.5,
        ge=0,
        le=1e6,
        alias="lambda",
        description="Weight of effort beside influence; for goracs, beside transport.",
    )


class StrataSettings(SelectorSettings):
    """How finely a range of scores is covered."""

    strata: int = Field(50, ge=1)


class NormaliseSettings(SelectorSettings):
    """How scores are brought to one scale; the names are those of `scoring.normalise.NORMALISATIONS`."""

    normalise: Literal["minmax", "robust", "rank"] = "minmax"


class CoverageSettings(StrataSettings, NormaliseSettings):
    """How the range of a score is pruned, covered and drawn from."""

    hard_prune: float = Field(0.1, ge=0, lt=1, description="Share of top scores dropped.")
    sampling: Literal["strata", "proportional"] = Field(
        "strata", description="Evenly over strata of the score, or with a chance in proportion to it."
    )
    sharpness: float = Field(1.0, gt=0, description="Power of the score in proportional sampling; high takes the top.")


class DealrecSettings(EffortWeightSettings, CoverageSettings):
    """Coverage of influence + λ · effort."""


class TopSettings(EffortWeightSettings, NormaliseSettings):
    """The highest influence + λ · effort."""


class TransportSettings(EffortWeightSettings):
    """Transport to the reference period, less λ times the gradient norm."""

    transport_epsilon: float = Field(
        0.05, gt=0, description="Entropy of the transport of goracs, in units of the mean cost."
    )
    transport_points: int = Field(
        2048, ge=1, description="Train samples, and reference samples, that goracs solves the transport on, at most."
    )


class BuiltInSettings(DealrecSettings, TransportSettings):
    """All settings of the built-in selectors."""


_Settings = TypeVar("_Settings", bound=SelectorSettings)


def read_settings(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Read the settings that `values` gives by their keys; the others have their defaults.

    Raises
    ------
    SettingError : a key that is none of them, or a value out of its range; it names each of them.
    """
    known = kind.names()
    unknown = [key for key in values if key not in known]
    if unknown:
        there = f"the settings are {', '.join(known)}" if known else "this selector has none"
        raise SettingError(f"there is no setting {', '.join(map(str, unknown))}; {there}")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError("; ".join(setting_faults(error, kind))) from None
