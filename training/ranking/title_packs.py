"""Titles in small trees of tokens; a language model reads each tree in one pass behind a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: The parent of a token that follows the prompt itself.
PROMPT = -1


@dataclass(frozen=True)
class TitlePack:
    """Responses of R titles as a tree of T tokens, in which responses share the tokens that they begin with.

    The last token of a response, its end, is predicted but never read, so it is no part of the tree.

    Attributes
    ----------
    rows : int64 [R], the index of each response.
    tokens, parents, depths : int64 [T]; a parent precedes its children, and PROMPT is that of the first tokens.
    visible : bool [T, T], each token's own branch.
    last : int64 [R], the token of the tree that precedes the end of each response, or PROMPT.
    ends : int64 [R], the last token of each response.
    """

    rows: Tensor
    tokens: Tensor
    parents: Tensor
    depths: Tensor
    visible: Tensor
    last: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: str | torch.device) -> TitlePack:
        return TitlePack(
            self.rows.to(device),
            self.tokens.to(device),
            self.parents.to(device),
            self.depths.to(device),
            self.visible.to(device),
            self.last.to(device),
            self.ends.to(device),
        )

    def log_probs(self, first: Tensor, logits: Tensor) -> Tensor:
        """Return the log-probability of each response, float64 [R].

        Parameters
        ----------
        first : [V], the logits behind the prompt.
        logits : [T, V], those behind each token of the tree.
        """
        # Row 0 is the prompt, and row t + 1 token t, so PROMPT becomes a row like any other.
        values = torch.cat([first[None], logits]).float()
        norms = values.logsumexp(dim=-1)
        steps = (values[self.parents + 1, self.tokens] - norms[self.parents + 1]).double()
        branches = torch.cat([steps.new_zeros(1), self.visible.double() @ steps])
        end = values[self.last + 1, self.ends] - norms[self.last + 1]
        return branches[self.last + 1] + end.double()


def pack_titles(responses: Sequence[Sequence[int]], most: int) -> list[TitlePack]:
    """Group responses into packs of at most `most` tokens; a longer response gets a pack of its own.

    No response may be empty. Neighbours in lexicographic order share a pack, because they share beginnings.
    """
    order = sorted(range(len(responses)), key=lambda row: list(responses[row]))
    packs: list[TitlePack] = []
    growing = _GrowingPack()
    for row in order:
        response = responses[row]
        if growing.rows and len(growing.tokens) + growing.cost(response) > most:
            packs.append(growing.finish())
            growing = _GrowingPack()
        growing.add(row, response)
    return [*packs, growing.finish()] if growing.rows else packs


class _GrowingPack:
    """A pack under construction, which responses join in lexicographic order."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.tokens: list[int] = []
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._last: list[int] = []
        self._ends: list[int] = []
        self._path: list[int] = []

    def _shared(self, response: Sequence[int]) -> int:
        """Return how many tokens the response has in common with the path to the one before."""
        count = 0
        for place, token in zip(self._path, response[:-1], strict=False):
            if self.tokens[place] != token:
                break
            count += 1
        return count

    def cost(self, response: Sequence[int]) -> int:
        """Return how many tokens the response adds."""
        return len(response) - 1 - self._shared(response)

    def add(self, row: int, response: Sequence[int]) -> None:
        del self._path[self._shared(response) :]
        for token in response[len(self._path) : -1]:
            self._parents.append(self._path[-1] if self._path else PROMPT)
            self._depths.append(len(self._path))
            self._path.append(len(self.tokens))
            self.tokens.append(token)
        self.rows.append(row)
        self._last.append(self._path[-1] if self._path else PROMPT)
        self._ends.append(response[-1])

    def finish(self) -> TitlePack:
        visible = np.eye(len(self.tokens), dtype=bool)
        for token, parent in enumerate(self._parents):
            if parent != PROMPT:
                visible[token] |= visible[parent]
        columns = (self.rows, self.tokens, self._parents, self._depths, self._last, self._ends)
        rows, tokens, parents, depths, last, ends = (torch.tensor(column, dtype=torch.long) for column in columns)
        return TitlePack(rows, tokens, parents, depths, torch.from_numpy(visible), last, ends)
