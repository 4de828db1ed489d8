from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.exceptions import SelectorError, SettingError
from scoring.ids import draw_order
from scoring.selection import SelectionParams, select, selector
from scoring.selectors.dealrec_selector import DealrecSelector
from tests.scoring.selectors.samples import (
    assert_same,
    lowest,
    only_shard,
    parts_of,
    reference_samples,
    waiting_times,
    whole_shard,
)

OWN = "tests.own_selectors:"


def choose(name: str, shard, size: float = 20, seed: int = 0, reference=None, **given):
    cut = parts_of(shard, np.arange(len(shard.ok)), [len(shard.ok) // 2])
    return select(lambda: iter(cut), SelectionParams(OWN + name, size, seed, given), reference)


def test_the_highest_of_64_bits_are_taken_and_equal_ones_by_chance():
    """Times of one day in microseconds: as float32 all of them would be the same."""
    generator = np.random.default_rng(0)
    times = (1.7e15 + generator.integers(0, 40, 300)).astype(np.float64)
    shard = replace(whole_shard(300), timestamp=times, ok=np.ones(300, dtype=bool))
    for seed in (0, 1):
        chosen = choose("Newest", shard, 33, seed)
        keys = draw_order(shard.sample_id, seed).tolist()
        order = zip((-times).tolist(), keys, strict=True)
        ranked = dict(zip(shard.sample_id.tolist(), order, strict=True))
        assert chosen.sample_id.tolist() == lowest(ranked, 33)
    assert chosen.report["settings"] == {"skip": 0.0, "strata": 10}
    assert chosen.report["method"] == OWN + "Newest"


@given(seed=st.integers(0, 20), size=st.sampled_from([1, 7, 60]), data=st.data())
@settings(max_examples=20, deadline=None)
def test_no_partition_shows(seed, size, data):
    shard = whole_shard(60, seed)
    assert shard.timestamp is not None
    shard = replace(shard, timestamp=np.round(shard.timestamp / 300))
    params = SelectionParams(OWN + "Newest", size, seed)
    order = data.draw(st.permutations(range(60)))
    cuts = sorted(data.draw(st.lists(st.integers(0, 60), max_size=4)))
    assert_same(select(lambda: iter(parts_of(shard, order, cuts)), params), select(lambda: iter([shard]), params))


def test_settings_reach_it():
    shard = whole_shard(300)
    assert shard.timestamp is not None
    usable = shard.timestamp[shard.ok]
    low, high = usable.min(), usable.max()
    chosen = choose("Newest", shard, 20, skip=0.5)
    times = dict(zip(shard.sample_id.tolist(), shard.timestamp.tolist(), strict=True))
    assert max(times[sample] for sample in chosen.sample_id.tolist()) <= high - 0.5 * (high - low)
    assert chosen.report["settings"]["skip"] == 0.5


def test_a_switch_is_a_switch_and_no_number():
    given = {"plain": True, "perhaps": False, "whatever": True}
    assert selector(OWN + "Switched")(given).settings.values() == {"number": 1, **given}
    with pytest.raises(SettingError, match="number must be a number, a name or a list, got true"):
        selector(OWN + "Switched")({"number": True})


def test_lists_of_whole_numbers_are_weights():
    shard = whole_shard(200)
    chosen = choose("ByTarget", shard, 30, 4)
    usable = shard.take(np.flatnonzero(shard.ok))
    assert chosen.sample_id.tolist() == lowest(waiting_times(usable.sample_id, usable.target, 4), 30)


def test_one_derived_from_a_built_in_one_has_its_settings_and_chooses_alike():
    shard = whole_shard(300)
    params = SelectionParams("dealrec", 30, 1, {"lambda": 2.0, "strata": 7})
    chosen = choose("Narrow", shard, 30, 1, **params.settings)
    assert chosen.sample_id.tolist() == select(lambda: iter([shard]), params).sample_id.tolist()
    assert issubclass(selector(OWN + "Narrow"), DealrecSelector)


def test_one_that_sees_validation_is_given_the_reference():
    shard, reference = whole_shard(200), reference_samples(40)
    chosen = choose("Aimed", shard, 30, 0, reference)
    mean = only_shard(reference).target.mean()
    far = np.abs(shard.target - mean)
    picked = np.isin(shard.sample_id, chosen.sample_id)
    assert far[picked].max() <= np.sort(far[shard.ok])[29]
    with pytest.raises(SettingError, match="Aimed needs"):
        choose("Aimed", shard)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Fails", r"ZeroDivisionError: .* \(own_selectors.py, line \d+\)"),
        ("FailsInFit", r"KeyError: 'model.bin' \(own_selectors.py, line \d+\)"),
        ("GivesNothing", "rank gave values of type object"),
        ("GivesNan", "NaN for .* of the"),
        ("GivesWords", "not numbers"),
        ("GivesMatrix", r"an array of shape \(\d+, 2\), not \(\d+,\)"),
        ("GivesOne", r"an array of shape \(\)"),
        ("GivesNegative", "negative"),
        ("MixesTypes", "float32 for some shards"),
        ("AsksForReference", "sees_validation = False"),
        ("TellsNoFacts", "facts gave a NoneType"),
        ("TellsArrays", "facts gave what JSON cannot hold"),
    ],
)
def test_what_it_does_wrong_is_told_as_its_own(name, words):
    with pytest.raises(SelectorError, match=words):
        choose(name, whole_shard(100))


def test_a_feature_that_the_log_lacks_is_named():
    with pytest.raises(SelectorError, match="needs the feature timestamp"):
        choose("Newest", replace(whole_shard(50), timestamp=None))


@pytest.mark.parametrize("name", ["Newest", "SwallowsErrors"])
def test_samples_that_cannot_be_read_are_no_fault_of_the_class(name):
    passes = 0

    def shards():
        nonlocal passes
        passes += 1
        yield whole_shard(50)
        if passes > 1:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        select(shards, SelectionParams(OWN + name, 5))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("no_such_module:Newest", "there is no module no_such_module; put it on the PYTHONPATH"),
        ("tests.no_such_module:Newest", "there is no module tests.no_such_module"),
        ("tests.own_selectors:Newst", "has no class Newst"),
        ("tests.own_selectors:NotOne", "derive the class"),
        ("tests.own_selectors:np", "derive the class"),
        ("tests.own_selectors:NoRank", "must define rank"),
        ("tests.own_selectors:MisspeltFeature", "features = .* names out of target, history"),
        ("tests.own_selectors:TextForTuple", "features = 'timestamp', which must be a tuple"),
        ("tests.own_selectors:NoSuchDraw", "draw = 'lowest', which must be one of highest"),
        ("tests.own_selectors:OwnInit", "defines __init__"),
        ("tests.own_selectors:WrongArguments", r"must define rank with the arguments \(self, shard\)"),
        ("tests.own_selectors:PlainSettings", "Settings that do not derive"),
        ("tests.failing_import:Newest", "ImportError: no licence"),
    ],
)
def test_a_class_that_cannot_be_asked_is_refused_before_it_is(method, words):
    with pytest.raises(SettingError, match=words):
        selector(method)


@pytest.mark.parametrize("method", ["dealrec:", ":Newest", "a b:C", "a:b:C", "a:b.C", "../a:C", "a.py:C"])
def test_what_names_no_class_is_no_method(method):
    with pytest.raises(SettingError):
        selector(method)
