"""Exact order statistics of a stream that is too large to sort.

A radix selection from the most significant digit: each pass counts the next digit of the keys that share
the prefix of a sought rank, and the counts of shards add up. The result is the very element that sorting
everything would put at that rank, so it does not depend on how the stream is cut. Memory is tables of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

_FEW_RANKS = 16  # up to here wide digits, hence fewer passes, still give small tables
_SIGN = np.uint32(0x80000000)
_LONG_SIGN = np.uint64(1 << 63)


def float_keys(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Unsigned integers in the order of finite floats [N]; both zeros have the same key."""
    # Adding +0 turns -0 into +0 and changes nothing else.
    bits = (np.ascontiguousarray(values, dtype=np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def key_floats(keys: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The inverse of `float_keys`."""
    bits = np.asarray(keys, dtype=np.uint32)
    return np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)


def double_keys(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """`float_keys` for 64 bits."""
    bits = (np.ascontiguousarray(values, dtype=np.float64) + 0.0).view(np.uint64)
    return np.where(bits & _LONG_SIGN, ~bits, bits | _LONG_SIGN)


def key_doubles(keys: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The inverse of `double_keys`."""
    bits = np.asarray(keys, dtype=np.uint64)
    return np.where(bits & _LONG_SIGN, bits ^ _LONG_SIGN, ~bits).view(np.float64)


@dataclass(frozen=True)
class Weighed:
    """Keys [N] that count several times each: `weights` int64 [N], 1 or more, below 2⁵³ in sum."""

    keys: Keys
    weights: Counts


@dataclass(frozen=True)
class RankSearch:
    """The search for R ranks after some digits of the keys are known.

    Attributes
    ----------
    width : bits of a key, 32 or 64.
    digit : bits counted in one pass.
    consumed : leading bits already known.
    prefixes : uint64 [R], those leading bits, for each rank.
    residuals : int64 [R], the rank among the keys with that prefix.
    exact : whether the very keys are sought, or any bounds that have as many keys below them.
    """

    width: int
    digit: int
    consumed: int
    prefixes: npt.NDArray[np.uint64]
    residuals: Counts
    exact: bool = True

    @classmethod
    def start(cls, ranks: Sequence[int] | Counts, width: int, exact: bool = True) -> RankSearch:
        """Search for zero-based `ranks` (each below the number of keys) among keys of `width` bits."""
        residuals = np.asarray(ranks, dtype=np.int64)
        digit = 16 if len(residuals) <= _FEW_RANKS else 11
        return cls(width, digit, 0, np.zeros(len(residuals), dtype=np.uint64), residuals, exact)

    @property
    def done(self) -> bool:
        # A rank of 0 within its prefix: as many keys lie below the prefix itself as below the sought key.
        separated = not self.exact and not self.residuals.any()
        return self.consumed == self.width or len(self.prefixes) == 0 or separated

    @property
    def found(self) -> npt.NDArray[np.uint64]:
        """uint64 [R], the keys (or bounds) of the ranks; meaningful when done."""
        return self.prefixes << np.uint64(self.width - self.consumed)

    @property
    def _step(self) -> int:
        return min(self.digit, self.width - self.consumed)

    def empty_counts(self) -> Counts:
        """int64 [distinct prefixes, values of a digit], the neutral element of the sum."""
        return np.zeros((len(np.unique(self.prefixes)), 1 << self._step), dtype=np.int64)

    def counts(self, part: Keys | Weighed) -> Counts:
        """The counts of one shard's keys [N]; the counts of shards add up in any order."""
        keys, weights = (part.keys, part.weights) if isinstance(part, Weighed) else (part, None)
        table = self.empty_counts()
        below = self.width - self.consumed - self._step
        row: npt.NDArray[np.int64] | int = 0
        if self.consumed:
            groups = np.unique(self.prefixes).astype(keys.dtype)
            heads = keys >> (below + self._step)
            place = np.minimum(np.searchsorted(groups, heads), len(groups) - 1)
            inside = groups[place] == heads
            keys, row = keys[inside], place[inside]
            weights = None if weights is None else weights[inside]
        digits = (keys >> below).astype(np.int64) & (table.shape[1] - 1)
        # Sums of whole numbers below 2⁵³ are exact in the float64 that numpy adds weights in.
        flat = np.bincount(row * table.shape[1] + digits, weights=weights, minlength=table.size)
        return flat.reshape(table.shape).astype(np.int64)

    def refine(self, totals: Counts) -> RankSearch:
        """The search one digit further, from the counts of all shards."""
        groups = np.unique(self.prefixes)
        cumulative = np.cumsum(totals, axis=1)
        rows = np.searchsorted(groups, self.prefixes)
        digits = np.array(
            [
                np.searchsorted(cumulative[row], rank, side="right")
                for row, rank in zip(rows, self.residuals, strict=True)
            ],
            dtype=np.int64,
        )
        if (digits >= totals.shape[1]).any():
            raise ValueError("a rank is not below the number of keys in the stream")
        before = cumulative[rows, digits] - totals[rows, digits]
        return replace(
            self,
            consumed=self.consumed + self._step,
            prefixes=(self.prefixes << np.uint64(self._step)) | digits.astype(np.uint64),
            residuals=self.residuals - before,
        )


def run_searches(
    stream: Callable[[], Iterator[tuple[Keys | Weighed, ...]]], searches: Sequence[RankSearch]
) -> list[RankSearch]:
    """Read the stream until every search is done.

    Parameters
    ----------
    stream : begins a pass; yields for each shard a tuple with one array of keys per search.
    searches : one per array of the tuple.

    Returns
    -------
    The searches, done: `found` has the keys, `residuals` the ranks among equal keys.
    """
    current = list(searches)
    while not all(search.done for search in current):
        totals = [search.empty_counts() for search in current]
        for shard in stream():
            for search, total, keys in zip(current, totals, shard, strict=True):
                if not search.done:
                    total += search.counts(keys)
        current = [
            search if search.done else search.refine(total) for search, total in zip(current, totals, strict=True)
        ]
    return current
