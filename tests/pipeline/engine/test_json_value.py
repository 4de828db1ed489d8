"""Values read from JSON."""

from __future__ import annotations

import pytest

from pipeline.engine.json_value import JsonValue, number_or_none, records


@pytest.mark.parametrize(
    ("value", "found"),
    [([{"a": 1}, 2, "x"], [{"a": 1}]), ([], []), ("text", []), ({"a": 1}, []), (None, []), (3, [])],
)
def test_only_objects_in_a_list_are_records(value: JsonValue, found: list[JsonValue]) -> None:
    assert records(value) == found


@pytest.mark.parametrize(("value", "found"), [(2, 2.0), (0.5, 0.5), ("2", None), (None, None), ([1], None)])
def test_only_numbers_are_numbers(value: JsonValue, found: float | None) -> None:
    assert number_or_none(value) == found
