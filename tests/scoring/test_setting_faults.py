from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from scoring.setting_faults import setting_faults
from scoring.settings import PositiveInt, Section, Share, unmet


class Inner(Section):
    size: PositiveInt = 1
    lambda_: float = Field(0.5, ge=0, lt=1, alias="lambda")


class Outer(Section):
    count: PositiveInt | Literal["all"] = 1
    share: Share = 0.5
    part: Annotated[float, Field(gt=0)] | Literal["none", "some"] = 0.5
    name: str = Field("a", pattern="^[a-z]$", description="One lower-case letter.")
    plain: str = Field("a", pattern="^[a-z]$")
    on: bool = False
    inner: Inner = Inner()
    many: tuple[Inner, ...] | None = None
    values: tuple[float, ...] = Field((1.0,), min_length=1)
    needed: int

    @field_validator("values")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(values):
            raise unmet("a list of rising values")
        if 13 in values:
            raise ValueError("13 brings no luck")
        return values


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ({"count": 0}, ["count must be at least 1 or all, got 0"]),
        ({"count": "few"}, ["count must be a whole number or all, got 'few'"]),
        ({"count": 1.5}, ["count must be a whole number or all, got 1.5"]),
        ({"count": True}, ["count must be a number, a name or a list, got true"]),
        ({"share": 2}, ["share must be at most 1, got 2"]),
        ({"share": None}, ["share must be a number, got null"]),
        ({"share": float("nan")}, ["share must be a finite number, got nan"]),
        ({"part": -1}, ["part must be above 0 or none or some, got -1"]),
        ({"name": "AB"}, ["name must be one lower-case letter, got 'AB'"]),
        ({"plain": "AB"}, ["plain must be of the form ^[a-z]$, got 'AB'"]),
        ({"on": "perhaps"}, ["on must be true or false, got 'perhaps'"]),
        ({"inner": 3}, ["inner must be a group of keys, got 3"]),
        ({"inner": {"lambda": 1}}, ["inner.lambda must be below 1, got 1"]),
        ({"inner": {"sice": 1}}, ["unknown key inner.sice (nearest valid key: inner.size)"]),
        ({"many": [{}, {"size": "x"}]}, ["many[1].size must be a whole number, got 'x'"]),
        ({"many": [{"lamda": 1}]}, ["unknown key many[0].lamda (nearest valid key: many[0].lambda)"]),
        ({"values": []}, ["values must be a list of 1 or more values, got []"]),
        ({"values": [1, "x"]}, ["values[1] must be a number, got 'x'"]),
        ({"values": [2, 1]}, ["values must be a list of rising values, got [2, 1]"]),
        ({"values": [13]}, ["values: 13 brings no luck"]),
        ({"values": "x"}, ["values must be a list, got 'x'"]),
        ({"need": 1}, ["unknown key need (nearest valid key: needed)"]),
        ({"needed": "x" * 200}, [f"needed must be a whole number, got '{'x' * 76}..."]),
        (
            {"share": -1, "inner": {"size": 0}},
            ["share must be at least 0, got -1", "inner.size must be at least 1, got 0"],
        ),
    ],
)
def test_a_fault_is_one_sentence_with_key_rule_and_value(settings: dict[str, Any], sentences: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"needed": 1, **settings})
    assert setting_faults(caught.value, Outer) == sentences


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({})
    assert setting_faults(caught.value, Outer) == ["key needed is missing"]
