"""What rankers make of an answer: an oracle reaches the best value there can be, and nothing more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.engine.sample_tables import ragged_column
from pipeline.stages.baseline_rankers import SimilarityRanker
from pipeline.stages.llm_ranker import LlmRanker, LlmTask
from pipeline.stages.ranking_task import PREDICTIONS, Answer, Ranker, Users
from scoring.ragged import Ragged
from tests.tiny_llm import make_model, make_tokenizer
from training.llm.llm_spec import LLMSpec
from training.llm.token_batches import TokenBatch
from training.ranking.beam_search import BeamSettings
from training.ranking.generate import Generated
from training.ranking.grounding import TextEmbedder, TitleSpace
from training.ranking.ranking_metrics import title_groups, user_metrics
from training.ranking.title_trie import OUTSIDE

TITLES = [
    f"Title {word}"
    for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
]
TITLES[6] = TITLES[2]
HISTORY = [[1, 2], [3], [4, 5, 6], [2]]
TARGETS = [[3], [8, 9], [7, 10, 11], [12]]
BEAMS = 3


def users(seen: bool = True) -> Users:
    table = pa.table({"sample_id": pa.array(range(4), pa.int64()), "user_id": ["a", "b", "c", "d"]})
    history = Ragged.from_rows(HISTORY)
    return Users(table, history, Ragged.from_rows(TARGETS), history if seen else None)


class Oracle:
    """Knows every user's targets, and says them in order, as many as there are beams."""

    def __init__(self, constrained: bool) -> None:
        self.constrained = constrained

    def run(self, batch: TokenBatch, barred: Ragged | None = None) -> Generated:
        chosen = [TARGETS[row][:BEAMS] for row in batch.rows.tolist()]
        items = np.full((len(chosen), BEAMS), OUTSIDE, dtype=np.int64)
        if self.constrained:
            for row, targets in enumerate(chosen):
                items[row, : len(targets)] = targets
        scores = np.zeros((len(chosen), BEAMS), dtype=np.float32)
        texts = [[TITLES[item - 1] for item in targets] for targets in chosen]
        return Generated(texts, scores, items, batch.rows)


def llm_ranker(
    decoding: Any,
    max_new_tokens: int = 12,
    beams: int = BEAMS,
    penalty: float = 1.0,
    prior: np.ndarray | None = None,
    weight: float = 0.0,
    allowed: np.ndarray | None = None,
) -> LlmRanker:
    model, tokenizer = make_model(), make_tokenizer()
    embeddings = TextEmbedder(model, tokenizer).embed(TITLES)
    search = BeamSettings(beams, max_new_tokens, penalty)
    task = LlmTask(LLMSpec("none", "float32"), "movies", 5, 256, search, decoding, 4096, weight)
    space = TitleSpace(embeddings)
    return LlmRanker("oracle", task, model, tokenizer, TITLES, space, prior=prior, allowed=allowed)


def log_probabilities(ranker: LlmRanker, asked: Users) -> np.ndarray:
    """Every title's log-probability for each user, one sequence after another, [U, n]."""
    encoder, rows = ranker._encoder, []
    for user in range(len(asked)):
        prompt = encoder.encode(asked.history.row(user).tolist()).input_ids
        row = []
        for item in range(1, len(TITLES) + 1):
            response = encoder.response_ids(item)
            with torch.no_grad():
                logits = ranker._model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            row.append(float(logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum()))
        rows.append(row)
    return np.array(rows)


def predictions(ranker: Ranker, asked: Users) -> pa.Table:
    return asked.predictions(ranker.label, ranker.answer(asked), title_groups(TITLES))


def rank(decoding: Any) -> tuple[pa.Table, dict[str, np.ndarray]]:
    ranker = llm_ranker(decoding)
    ranker._generator = Oracle(decoding == "constrained")  # type: ignore[assignment]
    table = predictions(ranker, users())
    assert table.schema == PREDICTIONS
    return table, user_metrics(ragged_column(table, "ranks"))


def test_an_oracle_with_a_beam_a_target_scores_the_most_there_is() -> None:
    table, metrics = rank("constrained")
    # Every target is within the beams, so all are found before anything else.
    assert ragged_column(table, "ranks").values.tolist() == [1, 1, 2, 1, 2, 3, 1]
    for name, values in metrics.items():
        np.testing.assert_allclose(values, 1.0, err_msg=name)
    assert table.column("grounded").to_pylist() == [targets[0] for targets in TARGETS]


def test_every_user_s_list_is_kept_with_its_scores() -> None:
    ranker = llm_ranker("constrained")
    asked, groups = users(), title_groups(TITLES)
    answer = ranker.answer(asked)
    table = asked.predictions(ranker.label, answer, groups, 50)
    lists = ragged_column(table, "items")
    assert asked.seen is not None
    for user in range(len(asked)):
        items, scores = lists.row(user).tolist(), table.column("scores")[user].as_py()
        assert items[0] == table.column("grounded")[user].as_py()
        assert scores == sorted(scores, reverse=True)
        assert scores == [float(answer.scores[user, item - 1]) for item in items]
        # All candidates are listed, one a title.
        seen = set(asked.seen.row(user).tolist())
        assert {groups[item - 1] for item in items} == {groups[item - 1] for item in range(1, 13) if item not in seen}
        assert len({groups[item - 1] for item in items}) == len(items)
        assert not seen & set(items)
    short = ragged_column(asked.predictions(ranker.label, answer, groups, 4), "items")
    assert [short.row(user).tolist() for user in range(4)] == [lists.row(user)[:4].tolist() for user in range(4)]


def test_a_user_who_has_seen_everything_has_an_empty_list() -> None:
    table = pa.table({"sample_id": pa.array([0, 1], pa.int64()), "user_id": ["a", "b"]})
    seen = Ragged.from_rows([list(range(1, 13)), []])
    asked = Users(table, seen, Ragged.from_rows([[1], [2]]), seen)
    found = asked.predictions("m", Answer(np.tile(np.arange(12, dtype=np.float32), (2, 1))), title_groups(TITLES), 3)
    assert found.column("grounded").to_pylist() == [None, 12]
    assert found.column("items").to_pylist() == [[], [12, 11, 10]]
    assert found.column("ranks").to_pylist() == [[13], [11]]


def test_a_beam_that_is_masked_leaves_the_first_place_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of a beam that was seen already is given the next beam, however near the seen title is to another."""
    ranker = llm_ranker("constrained")
    asked = users()
    assert asked.seen is not None
    seen = [int(asked.seen.row(user)[0]) for user in range(len(asked))]
    beams = [[first, targets[0]] for first, targets in zip(seen, TARGETS, strict=True)]
    texts = [TITLES[first - 1] for first in seen]
    monkeypatch.setattr(ranker, "_generate", lambda _: (texts, Ragged.from_rows(beams)))
    table = predictions(ranker, asked)
    assert table.column("grounded").to_pylist() == [targets[0] for targets in TARGETS]
    assert [int(row[0]) for row in table.column("ranks").to_pylist()] == [1] * len(TARGETS)


def test_a_title_is_found_though_the_user_has_seen_another_item_of_it() -> None:
    """Items 3 and 7 share a title. The beams of a real trie name the first, which the user has seen."""
    ranker = llm_ranker("constrained")
    trie = ranker._generator.trie
    assert trie is not None
    encoder = ranker._encoder
    leaf = int(trie.walk(torch.tensor([encoder.response_ids(7)])))
    found = [12, int(trie.items[leaf]), 1]
    assert found[1] == 3

    class Fixed:
        def run(self, batch: TokenBatch, barred: Ragged | None = None) -> Generated:
            items = np.tile(np.array(found, dtype=np.int64), (len(batch.rows), 1))
            texts = [[TITLES[item - 1] for item in found]] * len(batch.rows)
            return Generated(texts, np.zeros(items.shape, dtype=np.float32), items, batch.rows)

    ranker._generator = Fixed()  # type: ignore[assignment]
    table = pa.table({"sample_id": pa.array([0, 1], pa.int64()), "user_id": ["a", "b"]})
    history = Ragged.from_rows([[3], [5]])
    targets = Ragged.from_rows([[7, 1], [7, 3]])
    ranks = ragged_column(predictions(ranker, Users(table, history, targets, history)), "ranks")
    assert ranks.values.tolist() == [2, 3, 2, 2]


@pytest.mark.parametrize(("limit", "share"), [(1, 1.0), (1000, 0.0)])
def test_titles_that_are_too_long_to_write_are_counted(limit: int, share: float) -> None:
    assert llm_ranker("free", max_new_tokens=limit).unwritable() == share
    assert llm_ranker("constrained", max_new_tokens=limit).unwritable() == 0.0


def test_constrained_decoding_reaches_titles_of_any_length() -> None:
    table = predictions(llm_ranker("constrained", max_new_tokens=1), users())
    assert set(table.column("generated").to_pylist()) <= set(TITLES)


def test_a_search_of_candidates_finds_them_all_and_nothing_else() -> None:
    allowed = np.isin(np.arange(1, 13), [2, 5, 9, 11])
    ranker = llm_ranker("constrained", beams=4, penalty=0.0, allowed=allowed)
    asked = users(seen=False)
    answer, expected = ranker.answer(asked), log_probabilities(ranker, asked)
    for user in range(len(asked)):
        first = np.argsort(-answer.scores[user])[:4]
        candidates = np.flatnonzero(allowed)
        assert first.tolist() == candidates[np.argsort(-expected[user, candidates])].tolist()


def test_an_oracle_that_says_one_title_puts_that_target_first() -> None:
    table, metrics = rank("free")
    ranks = ragged_column(table, "ranks")
    assert [int(ranks.row(user)[0]) for user in range(4)] == [1, 1, 1, 1]
    assert table.column("generated").to_pylist() == [TITLES[targets[0] - 1] for targets in TARGETS]
    # Users with one target are perfect; with several, the first alone is worth 1 / targets and its gain.
    for user, targets in enumerate(TARGETS):
        ideal = sum(1 / np.log2(place + 2) for place in range(len(targets)))
        assert metrics["recall@5"][user] >= 1 / len(targets) - 1e-12
        assert metrics["ndcg@5"][user] >= 1 / ideal - 1e-12
        if len(targets) == 1:
            assert metrics["recall@5"][user] == metrics["ndcg@5"][user] == 1.0


@pytest.mark.parametrize("max_items", [1, 2])
def test_similar_titles_are_those_near_the_shown_history(max_items: int) -> None:
    directions = np.eye(12, dtype=np.float32)
    # Items 3 and 8 lie beside item 2, items 10 and 5 beside item 1.
    directions[[2, 7]] = 0.9 * directions[1] + 0.1 * directions[[2, 7]]
    directions[[9, 4]] = 0.9 * directions[0] + 0.1 * directions[[9, 4]]
    table = predictions(SimilarityRanker("similar", TitleSpace(directions), max_items), users())
    assert table.schema == PREDICTIONS
    # What the user has seen is no candidate.
    assert table.column("grounded").to_pylist()[3] in (3, 8)
    assert table.column("grounded").to_pylist()[0] in ((3, 8) if max_items == 1 else (3, 8, 10, 5))


PRIOR = np.linspace(-60.0, -20.0, len(TITLES)).astype(np.float32)
PRIOR[6] = PRIOR[2]


@pytest.mark.parametrize(("penalty", "weight"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.7)])
def test_likelihood_ranks_all_titles_by_their_corrected_probability(penalty: float, weight: float) -> None:
    ranker = llm_ranker("likelihood", penalty=penalty, prior=PRIOR if weight else None, weight=weight)
    asked = users()
    answer = ranker.answer(asked)
    lengths = np.array([len(ranker._encoder.response_ids(item)) for item in range(1, len(TITLES) + 1)])
    expected = (log_probabilities(ranker, asked) - weight * PRIOR) / lengths**penalty
    np.testing.assert_allclose(answer.scores, expected, rtol=1e-4)
    uncorrected = (log_probabilities(ranker, asked) / lengths**penalty).astype(np.float32)
    assert ranker.moved_by_prior == int((asked.best(uncorrected) != asked.best(answer.scores)).sum())
    assert answer.scores.dtype == np.float32
    # What was seen is no answer, so neither is it what the model is said to have written.
    assert answer.generated == [TITLES[item - 1] for item in asked.best(answer.scores)]


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_constrained_ranks_as_many_unseen_titles_as_there_are_beams_by_their_probability(weight: float) -> None:
    count = 8
    ranker = llm_ranker("constrained", beams=count, penalty=0.0, prior=PRIOR if weight else None, weight=weight)
    asked = users()
    answer = ranker.answer(asked)
    exact = log_probabilities(ranker, asked) - weight * PRIOR
    found = ranker._generate(asked)[1]
    for user in range(len(asked)):
        seen, items = set(HISTORY[user]), found.row(user).tolist()
        # Items 3 and 7 are one title, which is found as long as one of them was not seen.
        assert len(items) == count
        assert not seen & set(items)
        assert [exact[user, item - 1] for item in items] == sorted((exact[user, i - 1] for i in items), reverse=True)
        order = [item for item in np.argsort(-answer.scores[user], kind="stable") + 1 if item not in seen]
        assert order[:count] == items
        assert answer.generated is not None
        assert answer.generated[user] == TITLES[items[0] - 1]


def test_a_user_who_has_seen_everything_gets_an_answer() -> None:
    everything = Ragged.from_rows([list(range(1, len(TITLES) + 1))] * 4)
    asked = users()
    for decoding in ("constrained", "likelihood"):
        table = predictions(llm_ranker(decoding), Users(asked.table, asked.history, asked.targets, everything))
        assert set(ragged_column(table, "ranks").values.tolist()) == {len(TITLES) + 1}
