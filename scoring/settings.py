"""The base class of user settings: frozen, validated once, and closed to unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

#: The type of a fault that `unmet` makes; `scoring.setting_faults` reads it.
UNMET = "unmet"


def unmet(rule: str) -> PydanticCustomError:
    """Return a validation error that reads "<key> must be <rule>, got <value>"."""
    return PydanticCustomError(UNMET, "must be {rule}", {"rule": rule})


class Section(BaseModel):
    """A frozen group of keys that rejects unknown ones."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_boolean(cls, value: object, info: ValidationInfo) -> object:
        """Reject a boolean for a number: Python counts True as 1, so `size: yes` would select one sample."""
        annotation = None if info.field_name is None else cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation is not Any and bool not in (annotation, *get_args(annotation)):
            raise unmet("a number, a name or a list")
        return value
