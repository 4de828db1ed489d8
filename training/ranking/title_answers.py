"""The catalogue's titles as answers: their token ids, their trie, and those that a user must not be given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged
from training.ranking.title_trie import TitleTrie

Scores = npt.NDArray[np.float32]


class TitleAnswers:
    """Responses of n items, from item 1; items whose responses are equal are one answer.

    Attributes
    ----------
    lengths : int64 [n], tokens of each response, the end-of-sequence token included.
    """

    def __init__(self, responses: Sequence[Sequence[int]]) -> None:
        self.responses = responses
        self.lengths = np.array([len(ids) for ids in responses], dtype=np.int64)
        answers: dict[tuple[int, ...], int] = {}
        self._answer = np.array([answers.setdefault(tuple(ids), len(answers)) for ids in responses], dtype=np.int64)
        self._sizes = np.bincount(self._answer)

    @cached_property
    def trie(self) -> TitleTrie:
        """The trie of all responses, whose leaves name the first item of each answer."""
        return TitleTrie.build(self.responses)

    @cached_property
    def _leaves(self) -> npt.NDArray[np.int64]:
        """The leaf of each answer, int64."""
        items = self.trie.items.numpy()
        nodes = np.flatnonzero(items > 0)
        leaves = np.empty(len(self._sizes), dtype=np.int64)
        leaves[self._answer[items[nodes] - 1]] = nodes
        return leaves

    def barred(self, seen: Ragged) -> Ragged:
        """Return the leaves that each user has seen every item of."""
        rows = []
        for user in range(len(seen)):
            answers, counts = np.unique(self._answer[np.unique(seen.row(user)) - 1], return_counts=True)
            rows.append(self._leaves[answers[counts == self._sizes[answers]]])
        return Ragged.from_rows(rows)


def corrected(
    log_probs: Scores, lengths: npt.NDArray[np.int64], length_penalty: float, prior: Scores | None, weight: float
) -> Scores:
    """Return (log p(title | history) - weight * log p(title | no history)) / length ** length_penalty, float32.

    Parameters
    ----------
    log_probs : [..., n].
    lengths, prior : [n]; without a prior its weight counts as 0.
    """
    lift = log_probs if prior is None else log_probs - np.float32(weight) * prior
    scores: Scores = (lift / lengths.astype(np.float64) ** length_penalty).astype(np.float32)
    return scores
