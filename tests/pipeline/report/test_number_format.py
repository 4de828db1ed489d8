from __future__ import annotations

import pytest

from pipeline.report import number_format as fmt


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (0.01234, "0.0123"),
        (123.456, "123"),
        (1e-9, f"1.00e{fmt.MINUS}09"),
        (-2.5, f"{fmt.MINUS}2.50"),
    ],
)
def test_numbers(value, expected):
    assert fmt.number(value) == expected


def test_not_a_number_is_a_dash():
    assert fmt.number(float("nan")) == fmt.scalar(None) == fmt.NOTHING


def test_metric_names():
    assert fmt.metric_name("ndcg@10") == "NDCG@10"
    assert fmt.metric_name("coverage@5") == "coverage@5"


def test_percent_keeps_small_shares_apart():
    assert (fmt.percent(0.02), fmt.percent(0.0012), fmt.percent(0)) == (
        "2.0%",
        "0.12%",
        "0.0%",
    )


def test_nested_values_are_flattened_to_paths():
    tree = {"samples": {"train": 1200}, "cold_targets": 3, "sizes": [1, 2], "resumed": True}
    assert list(fmt.flatten(tree)) == [
        ("samples · train", "1,200"),
        ("cold targets", "3"),
        ("sizes", "1, 2"),
        ("resumed", "yes"),
    ]
