"""The base of every group of user settings: frozen, refusing what it does not know, validated once."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

#: The type of a fault that `unmet` makes; `pipeline.engine.setting_faults` reads it.
UNMET = "unmet"


def unmet(rule: str) -> PydanticCustomError:
    """A fault of a value that reads "<key> must be <rule>, got <value>"."""
    return PydanticCustomError(UNMET, "must be {rule}", {"rule": rule})


class Section(BaseModel):
    """A frozen group of keys that refuses what it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_boolean(cls, value: object, info: ValidationInfo) -> object:
        """Python counts True as 1: `size: yes` would be a coreset of one sample."""
        annotation = None if info.field_name is None else cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation is not bool:
            raise unmet("a number, a name or a list")
        return value
