"""Exact order statistics of a stream that is too large to sort.

A radix selection from the most significant digit: each pass counts the next digit of the keys that share the prefix of
a sought rank, and the counts of shards add up. The result is the element that a full sort would put at that rank, so
it does not depend on how the stream is split. Memory is limited to tables of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

_FEW_RANKS = 16  # for up to so many ranks, wide digits (and thus fewer passes) still give small tables
_SIGN = np.uint32(0x80000000)
_LONG_SIGN = np.uint64(1 << 63)


def float_keys(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Map finite floats [N] to unsigned integers in the same order; both zeros get the same key."""
    # Adding +0 turns -0 into +0 and changes nothing else.
    bits = (np.ascontiguousarray(values, dtype=np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def key_floats(keys: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Invert `float_keys`."""
    bits = np.asarray(keys, dtype=np.uint32)
    return np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)


def double_keys(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Map 64-bit floats like `float_keys`."""
    bits = (np.ascontiguousarray(values, dtype=np.float64) + 0.0).view(np.uint64)
    return np.where(bits & _LONG_SIGN, ~bits, bits | _LONG_SIGN)


def key_doubles(keys: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Invert `double_keys`."""
    bits = np.asarray(keys, dtype=np.uint64)
    return np.where(bits & _LONG_SIGN, bits ^ _LONG_SIGN, ~bits).view(np.float64)


@dataclass(frozen=True)
class WeightedKeys:
    """Keys [N] that each count several times: `weights` int64 [N], at least 1, with a sum below 2⁵³."""

    keys: Keys
    weights: Counts


@dataclass(frozen=True)
class RankSearch:
    """The search for R ranks once some leading digits of the keys are known.

    Attributes
    ----------
    width : bits of a key, 32 or 64.
    digit : bits counted per pass.
    consumed : number of leading bits already known.
    prefixes : uint64 [R], those leading bits for each rank.
    residuals : int64 [R], rank among the keys with that prefix.
    exact : whether to find the exact keys, or any bounds with as many keys below them.
    """

    width: int
    digit: int
    consumed: int
    prefixes: npt.NDArray[np.uint64]
    residuals: Counts
    exact: bool = True

    @classmethod
    def start(cls, ranks: Sequence[int] | Counts, width: int, exact: bool = True) -> RankSearch:
        """Start a search for zero-based `ranks` (each below the number of keys) among keys of `width` bits."""
        residuals = np.asarray(ranks, dtype=np.int64)
        digit = 16 if len(residuals) <= _FEW_RANKS else 11
        return cls(width, digit, 0, np.zeros(len(residuals), dtype=np.uint64), residuals, exact)

    @property
    def done(self) -> bool:
        # With rank 0 within its prefix, as many keys lie below the prefix as below the sought key.
        separated = not self.exact and not self.residuals.any()
        return self.consumed == self.width or len(self.prefixes) == 0 or separated

    @property
    def found(self) -> npt.NDArray[np.uint64]:
        """The keys (or bounds) of the ranks, uint64 [R]; only meaningful when done."""
        return self.prefixes << np.uint64(self.width - self.consumed)

    @property
    def _step(self) -> int:
        return min(self.digit, self.width - self.consumed)

    def empty_counts(self) -> Counts:
        """Return zero counts, int64 [distinct prefixes, values of a digit]."""
        return np.zeros((len(np.unique(self.prefixes)), 1 << self._step), dtype=np.int64)

    def counts(self, part: Keys | WeightedKeys) -> Counts:
        """Count one shard's keys [N]; the counts of shards add up in any order."""
        keys, weights = (part.keys, part.weights) if isinstance(part, WeightedKeys) else (part, None)
        table = self.empty_counts()
        below = self.width - self.consumed - self._step
        row: npt.NDArray[np.int64] | int = 0
        if self.consumed:
            groups = np.unique(self.prefixes).astype(keys.dtype)
            heads = keys >> (below + self._step)
            nearest = np.minimum(np.searchsorted(groups, heads), len(groups) - 1)
            inside = groups[nearest] == heads
            keys, row = keys[inside], nearest[inside]
            weights = None if weights is None else weights[inside]
        digits = (keys >> below).astype(np.int64) & (table.shape[1] - 1)
        # numpy adds weights in float64, where sums of integers below 2⁵³ are exact.
        flat = np.bincount(row * table.shape[1] + digits, weights=weights, minlength=table.size)
        return flat.reshape(table.shape).astype(np.int64)

    def refine(self, totals: Counts) -> RankSearch:
        """Advance the search by one digit, given the summed counts of all shards."""
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
            raise ValueError("a rank must be below the number of keys in the stream")
        before = cumulative[rows, digits] - totals[rows, digits]
        return replace(
            self,
            consumed=self.consumed + self._step,
            prefixes=(self.prefixes << np.uint64(self._step)) | digits.astype(np.uint64),
            residuals=self.residuals - before,
        )


def run_searches(
    stream: Callable[[], Iterator[tuple[Keys | WeightedKeys, ...]]], searches: Sequence[RankSearch]
) -> list[RankSearch]:
    """Read the stream until every search is done.

    Parameters
    ----------
    stream : starts a pass, and yields for each shard a tuple with one array of keys per search.
    searches : one per array of the tuple.

    Returns
    -------
    The finished searches, whose `found` holds the keys and `residuals` the ranks among equal keys.
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
