"""What the built-in selectors choose from one small log: none of it may change by a change of the code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from scoring.selection import METHODS, Selection, SelectionParams, select
from tests.scoring.selectors.samples import parts_of, reference_samples, whole_shard

#: Method, size, seed and settings; digests of the selection, from samples without weights and with them. They were
#: computed by the code of version 0.1, which had no base class for selectors.
CASES: list[tuple[str, float, int, dict[str, Any], str, str]] = [
    ("dealrec", 40, 0, {}, "55c06c9762f55641", "b74944348b9fff72"),
    (
        "dealrec",
        0.1,
        3,
        {"lambda": 0.7, "normalise": "rank", "strata": 9, "hard_prune": 0.2},
        "7f43d0321e1f1be9",
        "711a4fa7cd99b926",
    ),
    (
        "dealrec",
        33,
        1,
        {"sampling": "proportional", "sharpness": 2.0, "normalise": "robust"},
        "15cdaf3b818ac4dc",
        "d4afd8cea03462f2",
    ),
    ("influence", 40, 2, {"strata": 7}, "ce35ae0d535a6908", "4dc06622cb483db1"),
    ("effort", 40, 2, {"hard_prune": 0.0}, "c149746eb6317752", "8a0230bc6ce3fc8f"),
    ("ccs", 40, 2, {"strata": 12}, "b1f725ca6c2b4923", "81fa9356f812ed11"),
    ("top", 40, 2, {"lambda": 0.2, "normalise": "rank"}, "dfa7172070b92703", "b0903814a81ba127"),
    ("el2n", 0.29, 2, {}, "6d4f8233780cf2ea", "6d4f8233780cf2ea"),
    ("grand", 400, 2, {}, "aba94ae60a0cb7ef", "aba94ae60a0cb7ef"),
    ("random", 0.05, 7, {}, "b843cab75de4df83", "b843cab75de4df83"),
    ("full", 0.02, 7, {}, "345e8b3429870b46", "345e8b3429870b46"),
    ("popularity", 50, 4, {"strata": 4}, "aaae6247005af697", "84e93a598530a729"),
    ("density_ratio", 50, 4, {}, "dd0bfde23ff0319f", "dd0bfde23ff0319f"),
    ("reference_popularity", 330, 4, {}, "e40fa66490881422", "e40fa66490881422"),
    (
        "goracs",
        50,
        4,
        {"lambda": 0.1, "transport_epsilon": 0.2, "transport_points": 64},
        "d911da1e253d7c64",
        "d911da1e253d7c64",
    ),
    ("reference", 0.2, 4, {}, "7ea641c65cd8a267", "7ea641c65cd8a267"),
]
#: Their scores come out of solvers, whose last bits are the processor's.
_SOLVED = {"density_ratio", "goracs"}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return f"{value:.5g}" if isinstance(value, float) else value


def _digest(selection: Selection) -> str:
    state = hashlib.blake2b(digest_size=8)
    scores = () if selection.report["method"] in _SOLVED else (selection.score,)
    for column in (selection.sample_id, selection.influence, selection.effort, selection.stratum, *scores):
        state.update(str(column.dtype).encode() + column.tobytes())
    state.update(json.dumps(_rounded(selection.report)).encode())
    return state.hexdigest()


@pytest.mark.parametrize(("method", "size", "seed", "settings", "digest", "weighed_digest"), CASES)
def test_selections_are_those_of_version_0_1(method, size, seed, settings, digest, weighed_digest):
    shard, params = whole_shard(400, seed=3), SelectionParams(method, size, seed, settings)
    weight = np.random.default_rng(5).integers(1000, 50000, 400)
    found = []
    for given in (shard, replace(shard, weight=weight)):
        parts = parts_of(given, np.arange(400)[::-1], [100, 130, 333])
        found.append(_digest(select(partial(iter, parts), params, reference_samples(60))))
    assert found == [digest, weighed_digest]


def test_every_method_has_a_digest():
    assert {case[0] for case in CASES} == set(METHODS)
