"""The base of settings that people write: frozen, and strict about names and types."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class StrictModel(BaseModel):
    """A frozen group of keys that refuses what it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Python counts True as 1: `size: yes` would be a coreset of one sample."""
        annotation = None if info.field_name is None else cls.model_fields[info.field_name].annotation
        kinds = (annotation, *get_args(annotation))
        if isinstance(value, bool) and not any(kind in (bool, Any) or isinstance(kind, bool) for kind in kinds):
            raise ValueError("a number, a name or a list belongs here")
        return value
