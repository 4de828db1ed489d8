"""Counts over timestamps, block by block."""

from __future__ import annotations

import math

import numpy as np

from pipeline.ingest.values.time_facts import UNITS, TimeFacts, merge_time_facts, no_times, time_facts


def test_blocks_add_up_whatever_they_are() -> None:
    times = np.random.default_rng(0).choice([-1.0, 0.0, 5.0, 17_000.0, 1.6e9, 1.7e9, 1.6e12], 500)
    whole = time_facts(times)
    for pieces in (1, 3, 50):
        parts = [TimeFacts.from_list(np.array(time_facts(part).as_list())) for part in np.array_split(times, pieces)]
        merged = merge_time_facts([no_times(), *parts])
        assert merged.bins.tolist() == whole.bins.tolist()
        assert merged.as_list() == whole.as_list()
    assert (whole.low, whole.next_low, whole.high, whole.next_high) == (-1.0, 0.0, 1.6e12, 1.7e9)
    assert whole.low_count == int((times == -1.0).sum())
    assert whole.rows == 500


def test_one_value_and_none() -> None:
    one = time_facts(np.array([5.0, 5.0]))
    assert (one.low, one.high, one.low_count, one.high_count) == (5.0, 5.0, 2, 2)
    assert (one.next_low, one.next_high) == (math.inf, -math.inf)
    assert merge_time_facts([one, time_facts(np.array([7.0]))]).next_low == 7.0
    assert math.isnan(merge_time_facts([]).low)


def test_units_do_not_overlap() -> None:
    edges = [edge for unit in UNITS for edge in (unit.low, unit.high)]
    assert edges == sorted(edges)
