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
    ends : int64 [N + 1], number of leaves at and below each node.
    vocabulary : a number above every token id.
    """

    keys: Tensor
    first_child: Tensor
    children: Tensor
    items: Tensor
    ends: Tensor
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
        children = np.bincount(owners, minlength=count).astype(np.int64)
        ends = (children == 0).astype(np.int64)
        stop = count
        for level_keys in reversed(keys):
            np.add.at(ends, level_keys // vocabulary, ends[stop - len(level_keys) : stop])
            stop -= len(level_keys)
        return cls(
            keys=torch.from_numpy(flat),
            first_child=torch.from_numpy(first),
            children=torch.from_numpy(children),
            items=torch.from_numpy(found),
            ends=torch.from_numpy(ends),
            vocabulary=vocabulary,
        )

    def to(self, device: str | torch.device) -> TitleTrie:
        return TitleTrie(
            self.keys.to(device),
            self.first_child.to(device),
            self.children.to(device),
            self.items.to(device),
            self.ends.to(device),
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

    def successors(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return pairs (index in `nodes`, child) for every child of every node; OUTSIDE has none."""
        known = nodes.clamp(min=0)
        counts = torch.where(nodes >= 0, self.children[known], 0)
        rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        before = counts.cumsum(0) - counts
        offsets = torch.arange(len(rows), device=nodes.device) - before[rows]
        return rows, self.first_child[known][rows] + offsets

    def tokens_into(self, nodes: Tensor) -> Tensor:
        """Return the token that leads into each node; the root has none."""
        return self.keys[nodes - 1] % self.vocabulary

    def closed(self, prompts: Tensor, leaves: Tensor) -> Tensor:
        """Return the nodes with no leaf, at or below them, that is open to a prompt: ascending prompt * (N + 1) + node.

        Parameters
        ----------
        prompts, leaves : int64 [F], the leaves that are closed to a prompt, each once.
        """
        size = len(self.items)
        found = [torch.empty(0, dtype=torch.long, device=leaves.device)]
        while len(leaves):
            found.append(prompts * size + leaves)
            prompts, leaves = prompts[leaves != ROOT], leaves[leaves != ROOT]
            leaves = self.keys[leaves - 1] // self.vocabulary
        codes, counts = torch.cat(found).unique(return_counts=True)
        return codes[counts == self.ends[codes % size]]


class TrieSteering:
    """Allows only tokens that continue a response of the trie, without renormalising log-probabilities.

    A sequence ends at a leaf. Its state is prompt * (N + 1) + node, so that each prompt may have nodes that are closed
    to it: `closed`, ascending, as `TitleTrie.closed` gives them.
    """

    def __init__(self, trie: TitleTrie, closed: Tensor | None = None) -> None:
        self.trie = trie
        self._size = len(trie.items)
        # One more than any state, so that a search for a place always ends at one.
        beyond = torch.full((1,), torch.iinfo(torch.int64).max, device=trie.keys.device)
        self._closed = beyond if closed is None else torch.cat([closed, beyond])

    def start(self, count: int) -> Tensor:
        return torch.arange(count, device=self.trie.keys.device) * self._size

    def nodes(self, states: Tensor) -> Tensor:
        """Return the node of each state, OUTSIDE for a sequence that is none."""
        return torch.where(states >= 0, states % self._size, OUTSIDE)

    def allowed(self, states: Tensor) -> tuple[Tensor, Tensor]:
        sequences, children = self.trie.successors(self.nodes(states))
        codes = states[sequences] // self._size * self._size + children
        is_open = self._closed[torch.searchsorted(self._closed, codes)] != codes
        return sequences[is_open], self.trie.tokens_into(children[is_open])

    def advance(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        nodes = self.trie.step(self.nodes(states), tokens)
        inside = nodes >= 0
        ended = inside & (self.trie.children[nodes.clamp(min=0)] == 0)
        return torch.where(inside, states // self._size * self._size + nodes, OUTSIDE), ended
