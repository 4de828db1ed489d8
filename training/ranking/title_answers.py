"""The catalogue's titles as answers: their token ids, their trie, and those that a user must not be given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scoring.ragged import Ragged
from training.ranking.title_trie import OUTSIDE, TitleTrie

Scores = npt.NDArray[np.float32]


class TitleAnswers:
    """Responses of n items, from item 1; items whose responses are equal are one answer.

    Parameters
    ----------
    allowed : bool [n], the items that may be given; None allows all.

    Attributes
    ----------
    lengths : int64 [n], tokens of each response, the end-of-sequence token included.
    """

    def __init__(self, responses: Sequence[Sequence[int]], allowed: npt.NDArray[np.bool_] | None = None) -> None:
        self.responses = responses
        self.lengths = np.array([len(ids) for ids in responses], dtype=np.int64)
        self._allowed = np.ones(len(responses), dtype=bool) if allowed is None else allowed
        answers: dict[tuple[int, ...], int] = {}
        self._answer = np.array([answers.setdefault(tuple(ids), len(answers)) for ids in responses], dtype=np.int64)
        self._sizes = np.bincount(self._answer[self._allowed], minlength=len(answers))

    @cached_property
    def trie(self) -> TitleTrie:
        """The trie of the allowed responses, whose leaves name the first allowed item of each answer."""
        places = np.flatnonzero(self._allowed).tolist()
        return TitleTrie.build([self.responses[place] for place in places], [place + 1 for place in places])

    @cached_property
    def _leaves(self) -> npt.NDArray[np.int64]:
        """The leaf of each answer, int64; OUTSIDE for an answer without an allowed item."""
        items = self.trie.items.numpy()
        nodes = np.flatnonzero(items > 0)
        leaves = np.full(len(self._sizes), OUTSIDE, dtype=np.int64)
        leaves[self._answer[items[nodes] - 1]] = nodes
        return leaves

    def barred(self, seen: Ragged) -> Ragged:
        """Return the leaves that each user has seen every allowed item of."""
        rows = []
        for user in range(len(seen)):
            places = np.unique(seen.row(user)) - 1
            answers, counts = np.unique(self._answer[places[self._allowed[places]]], return_counts=True)
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
