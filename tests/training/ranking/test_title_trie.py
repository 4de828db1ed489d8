from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ranking.title_trie import OUTSIDE, TitleTrie, TrieSteering

END = 2
responses = st.lists(
    st.lists(st.integers(3, 8), min_size=0, max_size=5).map(lambda ids: [*ids, END]), min_size=1, max_size=30
)


@settings(deadline=None)
@given(responses)
def test_walking_finds_exactly_the_prefixes_and_leaves_name_the_first_item(rows):
    trie = TitleTrie.build(rows)
    prefixes = {tuple(row[:length]) for row in rows for length in range(len(row) + 1)}
    assert len(trie.items) == len(prefixes)
    for length in range(6):
        paths = [(*prefix, token) for prefix in prefixes if len(prefix) == length for token in range(10)]
        nodes = trie.walk(torch.tensor(paths).view(len(paths), length + 1)).tolist()
        for path, node in zip(paths, nodes, strict=True):
            assert (node != OUTSIDE) == (path in prefixes)
            if node != OUTSIDE:
                expected = rows.index(list(path)) + 1 if list(path) in rows else OUTSIDE
                assert int(trie.items[node]) == expected


@settings(deadline=None)
@given(responses, st.lists(st.lists(st.integers(2, 9), min_size=2, max_size=2), min_size=1, max_size=9))
def test_steering_leaves_just_what_continues_a_response_and_ends_at_leaves(rows, paths):
    trie = TitleTrie.build(rows)
    steering = TrieSteering(trie)
    states = steering.start(len(paths))
    for column in torch.tensor(paths).unbind(1):
        states, ended = steering.advance(states, column)
    assert ended.tolist() == [path in rows for path in paths]
    scores = torch.randn(len(paths), 12)
    sequences, tokens = steering.allowed(states)
    kept = torch.full_like(scores, -torch.inf)
    kept[sequences, tokens] = scores[sequences, tokens]
    for place, path in enumerate(paths):
        expected = {row[2] for row in rows if row[:2] == path and len(row) > 2}
        assert set(torch.isfinite(kept[place]).nonzero().flatten().tolist()) == expected
        for token in expected:
            assert kept[place, token] == scores[place, token]


def test_items_may_be_named():
    trie = TitleTrie.build([[5, END], [4, END]], items=[40, 7])
    assert trie.items[trie.walk(torch.tensor([[4, END], [5, END]]))].tolist() == [7, 40]


@settings(deadline=None)
@given(responses, st.data())
def test_closed_nodes_are_those_whose_every_leaf_is_closed(rows, data):
    rows = [list(row) for row in dict.fromkeys(map(tuple, rows))]
    trie = TitleTrie.build(rows)
    shut = [data.draw(st.lists(st.sampled_from(rows), unique_by=tuple)) for _ in range(3)]
    pairs = [(prompt, int(trie.walk(torch.tensor([row])))) for prompt in range(3) for row in shut[prompt]]
    prompts, leaves = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
    closed = trie.closed(prompts, leaves)
    size = len(trie.items)
    expected = []
    for prompt in range(3):
        for prefix in {tuple(row[:length]) for row in rows for length in range(len(row) + 1)}:
            below = [row for row in rows if tuple(row[: len(prefix)]) == prefix]
            if all(row in shut[prompt] for row in below):
                expected.append(prompt * size + int(trie.walk(torch.tensor([prefix], dtype=torch.long))))
    assert closed.tolist() == sorted(expected)

    # What is closed to one prompt stays open to the others, and a search never enters it.
    steering = TrieSteering(trie, closed)
    starts = steering.start(3)
    sequences, tokens = steering.allowed(starts)
    for prompt in range(3):
        open_rows = [row for row in rows if row not in shut[prompt]]
        assert sorted(tokens[sequences == prompt].tolist()) == sorted({row[0] for row in open_rows})
    _, ended = steering.advance(starts[sequences], tokens)
    assert ended.tolist() == [token == END for token in tokens.tolist()]
