from __future__ import annotations

import numpy as np
import torch

from scoring.ragged import Ragged
from training.ranking.title_answers import TitleAnswers, corrected
from training.ranking.title_trie import OUTSIDE

RESPONSES = [[5, 2], [5, 6, 2], [7, 2], [5, 2], [7, 2]]


def test_a_title_is_barred_once_the_user_has_seen_all_items_of_it():
    answers = TitleAnswers(RESPONSES)
    leaves = [int(answers.trie.walk(torch.tensor([ids]))) for ids in ([5, 2], [7, 2])]
    leaves.insert(1, int(answers.trie.walk(torch.tensor([[5, 6, 2]]))))
    barred = answers.barred(Ragged.from_rows([[1], [4, 1, 4], [2, 3], [], [1, 2, 3, 4, 5]]))
    assert [sorted(barred.row(user).tolist()) for user in range(5)] == [
        [],
        [leaves[0]],
        [leaves[1]],
        [],
        sorted(leaves),
    ]
    assert answers.lengths.tolist() == [2, 3, 2, 2, 2]


def test_the_correction_subtracts_the_prior_and_divides_by_the_length():
    log_probs, prior = np.array([[-4.0, -9.0]], np.float32), np.array([-2.0, -8.0], np.float32)
    lengths = np.array([2, 4])
    np.testing.assert_allclose(corrected(log_probs, lengths, 0.0, None, 0.5), log_probs)
    np.testing.assert_allclose(corrected(log_probs, lengths, 1.0, None, 0.0), [[-2.0, -2.25]])
    np.testing.assert_allclose(corrected(log_probs, lengths, 0.5, prior, 0.5), [[-3 / 2**0.5, -5 / 2]])


def test_only_allowed_items_are_answers():
    allowed = np.array([False, False, True, True, True])
    answers = TitleAnswers(RESPONSES, allowed)
    first, third = (int(answers.trie.walk(torch.tensor([ids]))) for ids in ([5, 2], [7, 2]))
    assert int(answers.trie.walk(torch.tensor([[5, 6, 2]]))) == OUTSIDE
    assert answers.trie.items[[first, third]].tolist() == [4, 3]
    # Item 1 shares the answer of item 4, but it is not allowed, so it does not matter who has seen it.
    barred = answers.barred(Ragged.from_rows([[1, 2], [4], [3], [3, 5]]))
    assert [barred.row(user).tolist() for user in range(4)] == [[], [first], [], [third]]
