"""The catalogue's responses as a token trie in flat arrays, and decoding constrained to it.

Nodes are numbered level by level, and lexicographically within a level. So the children of a node are consecutive and
sorted by token, and the keys (parent, token) of all nodes are sorted too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROOT = 0
OUTSIDE = -1


@dataclass(frozen=True)
class TitleTrie:
    """A trie of N + 1 nodes; node 0 is the root.

    Attributes
    ----------
    keys : int64 [N], parent * vocabulary + token of nodes 1..N, ascending.
    first_child, children : int64 [N + 1], first child and number of children of each node.
    items : int64 [N + 1], the item whose response ends at the node, OUTSIDE if none does; the first of several items
        with the same response.
    vocabulary : a number above every token id.
    """

    keys: Tensor
    first_child: Tensor
    children: Tensor
    items: Tensor
    vocabulary: int

    @classmethod
    def build(cls, responses: Sequence[Sequence[int]], items: Sequence[int] | None = None) -> TitleTrie:
        """Build a trie from token ids that end with the end-of-sequence token; `items` defaults to 1, 2, ..."""
        names = np.arange(1, len(responses) + 1) if items is None else np.asarray(items, dtype=np.int64)
        lengths = np.array([len(ids) for ids in responses], dtype=np.int64)
        table = np.full((len(responses), int(lengths.max(initial=0))), OUTSIDE, dtype=np.int64)
        for row, ids in enumerate(responses):
            table[row, : len(ids)] = ids
        order = np.lexsort(table.T[::-1]) if table.size else np.arange(len(responses))
        table, lengths, names = table[order], lengths[order], names[order]
        vocabulary = int(table.max(initial=0)) + 1
        # A row starts a new node at a level if it differs from the row before at that level or any level above.
        new = np.ones(table.shape, dtype=bool)
        new[1:] = np.logical_or.accumulate(table[1:] != table[:-1], axis=1)
        new &= table != OUTSIDE
        keys: list[npt.NDArray[np.int64]] = []
        leaf_nodes: list[npt.NDArray[np.int64]] = []
        leaf_items: list[npt.NDArray[np.int64]] = []
        parents = np.zeros(len(table), dtype=np.int64)
        count = 1
        for level in range(table.shape[1]):
            fresh = new[:, level]
            keys.append(parents[fresh] * vocabulary + table[fresh, level])
            inside = table[:, level] != OUTSIDE
            nodes = np.where(inside, count + np.cumsum(fresh) - 1, OUTSIDE)
            ends = lengths == level + 1
            leaf_nodes.append(nodes[ends])
            leaf_items.append(names[ends])
            parents = nodes
            count += int(fresh.sum())
        found = np.full(count, OUTSIDE, dtype=np.int64)
        if leaf_nodes:
            # Written in reverse, so that the first of equal responses wins.
            found[np.concatenate(leaf_nodes)[::-1]] = np.concatenate(leaf_items)[::-1]
        flat = np.concatenate(keys) if keys else np.empty(0, dtype=np.int64)
        owners = flat // vocabulary
        first = 1 + np.searchsorted(owners, np.arange(count))
        return cls(
            keys=torch.from_numpy(flat),
            first_child=torch.from_numpy(first),
            children=torch.from_numpy(np.bincount(owners, minlength=count).astype(np.int64)),
            items=torch.from_numpy(found),
            vocabulary=vocabulary,
        )

    def to(self, device: str | torch.device) -> TitleTrie:
        return TitleTrie(
            self.keys.to(device),
            self.first_child.to(device),
            self.children.to(device),
            self.items.to(device),
            self.vocabulary,
        )

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Return the children of `nodes` by `tokens`, in the same shape; OUTSIDE where there is none."""
        wanted = nodes * self.vocabulary + tokens
        key = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        valid = (self.keys[key] == wanted) & (nodes >= 0) & (tokens < self.vocabulary)
        return torch.where(valid, key + 1, OUTSIDE)

    def walk(self, sequences: Tensor) -> Tensor:
        """Return the nodes, int64 [M], that the token sequences [M, L] lead to from the root."""
        nodes = torch.full((len(sequences),), ROOT, device=sequences.device)
        for column in sequences.unbind(dim=1):
            nodes = self.step(nodes, column)
        return nodes

    def allowed(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return pairs (index in `nodes`, token) for every child of every node."""
        known = nodes.clamp(min=0)
        counts = torch.where(nodes >= 0, self.children[known], 0)
        rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        before = counts.cumsum(0) - counts
        offsets = torch.arange(len(rows), device=nodes.device) - before[rows]
        return rows, self.keys[self.first_child[known][rows] + offsets - 1] % self.vocabulary


class TrieSteering:
    """Allows only tokens that continue a response of the trie, without renormalising log-probabilities.

    A sequence's state is its node, and a sequence ends at a leaf.
    """

    def __init__(self, trie: TitleTrie) -> None:
        self.trie = trie

    def start(self, count: int) -> Tensor:
        return torch.full((count,), ROOT, device=self.trie.keys.device)

    def restrict(self, log_probs: Tensor, states: Tensor) -> Tensor:
        rows, tokens = self.trie.allowed(states)
        kept = torch.full_like(log_probs, -torch.inf)
        kept[rows, tokens] = log_probs[rows, tokens]
        return kept

    def advance(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        nodes = self.trie.step(states, tokens)
        return nodes, (nodes >= 0) & (self.trie.children[nodes.clamp(min=0)] == 0)
