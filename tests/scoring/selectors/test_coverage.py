from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from scoring.selection import ScoreShard
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import reference_choice, whole_shard


@pytest.mark.parametrize(("method", "score"), [("influence", "influence"), ("effort", "effort"), ("ccs", "el2n")])
def test_one_score_alone_is_covered_as_in_memory(method, score):
    shard = whole_shard(150, seed=2)
    params = SelectionParams(method, size=30, strata=7, hard_prune=0.29, seed=4)
    chosen = select(lambda: iter([shard]), params)
    # The reference adds two scores: this one, and another of weight 0.
    alone = replace(shard, influence=shard.score(score), effort=np.zeros(150, dtype=np.float32))
    expected = reference_choice(alone, replace(params, lambda_=0.0))
    assert dict(zip(chosen.sample_id.tolist(), chosen.stratum.tolist(), strict=True)) == expected
    assert "lambda" not in chosen.report


def test_the_effort_alone_needs_no_influence():
    shard = whole_shard(40)
    nothing = replace(shard, influence=np.full(40, np.nan, dtype=np.float32))
    one, two = (select(partial(pass_over, given), SelectionParams("effort", 5)) for given in (shard, nothing))
    assert one.sample_id.tolist() == two.sample_id.tolist()


def pass_over(shard: ScoreShard) -> Iterator[ScoreShard]:
    return iter([shard])
