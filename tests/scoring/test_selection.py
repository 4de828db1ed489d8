from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.exceptions import SettingError, TooFewSamplesError
from scoring.selection import METHODS, required_scores
from tests.scoring.selectors.flat_params import FlatParams as SelectionParams
from tests.scoring.selectors.flat_params import select
from tests.scoring.selectors.samples import assert_same, parts_of, reference_parts, reference_samples, whole_shard

AIMED = {"density_ratio", "reference_popularity", "goracs", "reference"}


def test_unknown_method_names_the_known_ones():
    with pytest.raises(SettingError, match="dealrec, random"):
        select(lambda: iter([]), SelectionParams(method="magic"))


def test_methods_state_what_they_need():
    assert required_scores("dealrec") == ("influence", "effort")
    assert required_scores("random") == ()
    assert {name for name, method in METHODS.items() if method.sees_validation} == AIMED


@pytest.mark.parametrize("method", sorted(AIMED))
def test_aimed_methods_refuse_to_go_without_a_reference(method):
    with pytest.raises(SettingError, match=f"{method} needs"):
        select(lambda: iter([whole_shard(5)]), SelectionParams(method=method))


@pytest.mark.parametrize("method", METHODS)
@given(
    count=st.integers(1, 90),
    seed=st.integers(0, 50),
    size=st.sampled_from([0.1, 0.5, 1, 7]),
    sampling=st.sampled_from(["strata", "proportional"]),
    data=st.data(),
)
@settings(max_examples=20, deadline=None)
def test_no_method_depends_on_partition_or_order(method, count, seed, size, sampling, data):
    shard, reference = whole_shard(count, seed), reference_samples(15, seed)
    params = SelectionParams(method, min(size, count), seed=seed, sampling=sampling, strata=5, transport_points=16)
    order = data.draw(st.permutations(range(count)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    whole = select(lambda: iter([shard]), params, reference)
    cut = reference_parts(reference, data.draw(st.permutations(range(15))), [4, 4, 9])
    assert_same(select(lambda: iter(parts_of(shard, order, cuts)), params, cut), whole)
    assert len(set(whole.sample_id.tolist())) == len(whole.sample_id) == whole.report["chosen"]
    assert (np.diff(whole.sample_id) > 0).all()
    assert whole.report["chosen"] <= whole.report["budget"] or method == "full"
    if method != "reference":
        assert set(whole.sample_id.tolist()) <= set(shard.sample_id[shard.ok].tolist())


@pytest.mark.parametrize("method", METHODS)
def test_no_method_chooses_from_nothing(method):
    shard = whole_shard(4)
    shard.ok[:] = False
    with pytest.raises(TooFewSamplesError):
        select(lambda: iter([shard]), SelectionParams(method), reference_samples(3))
