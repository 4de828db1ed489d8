"""Proxies: where they start, what tuning does, and that they rank by the conventions of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scoring.ragged import Ragged
from training.loops.proxy_loop import PROXY_SETTINGS, Pairs, ProxySettings, padded, tune_proxy, validation_loss
from training.loops.proxy_model import PROXIES, ProxyModel, build_proxy
from training.loops.proxy_ranking import RankedUsers, rank_users
from training.ranking.grounding import TitleSpace
from training.ranking.ranking_metrics import rank_targets, title_groups

ITEMS, WIDTH, LONGEST = 12, 16, 4
HISTORY = Ragged.from_rows([[1, 2], [3], [4, 5, 6, 7], [2, 2, 9], []])
QUICK = ProxySettings(batch=8, max_steps=60, check_steps=10, patience=3)


def space() -> TitleSpace:
    return TitleSpace(np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32))


def proxy(name: str, seed: int = 0) -> ProxyModel:
    return build_proxy(name, torch.from_numpy(space().directions), LONGEST, seed)


def walk(samples: int, seed: int) -> Pairs:
    """The target is the item after the last one of the history, whatever came before."""
    generator = np.random.default_rng(seed)
    last = generator.integers(1, ITEMS, samples)
    rows = [[*generator.integers(1, ITEMS + 1, generator.integers(0, LONGEST)), item] for item in last]
    return Pairs(Ragged.from_rows(rows), (last + 1).astype(np.int32))


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_proxy_starts_at_the_similarity_of_titles(name: str, seed: int) -> None:
    model = proxy(name, seed).eval()
    with torch.no_grad():
        scores = model.scores(padded(HISTORY, np.arange(len(HISTORY))))
    np.testing.assert_allclose(scores.numpy(), space().similarities(HISTORY), atol=2e-6)


@pytest.mark.parametrize("name", PROXIES)
def test_padding_and_the_other_rows_change_nothing(name: str) -> None:
    model = proxy(name)
    tune_proxy(model, walk(40, 0), walk(10, 1), QUICK, seed=0)
    model.eval()
    with torch.no_grad():
        together = model.scores(padded(HISTORY, np.arange(4))).numpy()
        for row in range(4):
            alone = model.scores(padded(HISTORY, np.array([row]))).numpy()
            np.testing.assert_allclose(together[row], alone[0], atol=2e-5)
        some = model.scores(padded(HISTORY, np.arange(4)), torch.tensor([3, 7])).numpy()
    np.testing.assert_allclose(some, together[:, [2, 6]], atol=2e-5)


@pytest.mark.parametrize("name", PROXIES)
def test_tuning_learns_and_keeps_the_best_step(name: str) -> None:
    model, valid = proxy(name), walk(60, 1)
    settings = ProxySettings(lr=1e-2, batch=32, max_steps=150, check_steps=10, patience=4)
    tuned = tune_proxy(model, walk(300, 0), valid, settings, seed=0)
    assert tuned.best_loss < 0.8 * tuned.untuned_loss
    assert 0 < tuned.best_step <= tuned.steps <= settings.max_steps
    assert validation_loss(model, valid) == pytest.approx(tuned.best_loss, rel=1e-5)


def test_what_teaches_nothing_leaves_the_untuned_model() -> None:
    model, before = proxy("lexical"), proxy("lexical").state_dict()
    valid = walk(60, 1)
    # Every sample's target is the one item that validation never contains.
    train = Pairs(walk(16, 0).history, np.ones(16, dtype=np.int32))
    tuned = tune_proxy(model, train, valid, ProxySettings(lr=1.0, max_steps=20, patience=2), seed=0)
    assert tuned.best_step == 0
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", PROXIES)
def test_the_seed_decides_and_leaves_other_random_state_alone(name: str) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    models = [proxy(name, seed) for seed in (1, 1, 2)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        tune_proxy(model, walk(40, 0), walk(10, 1), QUICK, seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, again, other = (torch.cat([p.flatten() for p in model.state_dict().values()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sampled_negatives_learn_as_well() -> None:
    model, valid = proxy("lexical"), walk(60, 1)
    settings = ProxySettings(lr=1e-2, negatives=5, max_steps=150, check_steps=10)
    tuned = tune_proxy(model, walk(300, 0), valid, settings, seed=0)
    assert tuned.best_loss < 0.9 * tuned.untuned_loss


def test_ranks_do_not_depend_on_the_chunks() -> None:
    model = proxy("semantic").eval()
    targets, groups = Ragged.from_rows([[3], [4, 8], [12], [1], [5]]), title_groups(["a", "b", "a", *"cdefghijk"])
    for seen in (None, HISTORY):
        users = RankedUsers(HISTORY, targets, seen)
        whole = rank_users(model, users, groups)
        assert np.array_equal(whole.values, rank_users(model, users, groups, cells=1).values)
        expected = rank_targets(space().similarities(HISTORY), targets, seen, groups)
        assert np.array_equal(whole.offsets, expected.offsets)
    assert set(PROXY_SETTINGS) == set(PROXIES)
