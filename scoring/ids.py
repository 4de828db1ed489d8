"""Hashes that determine a sample's identity, its shard and its position in a seeded draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

_SPLITMIX_STEP = np.uint64(0x9E3779B97F4A7C15)
_SPLITMIX_A = np.uint64(0xBF58476D1CE4E5B9)
_SPLITMIX_B = np.uint64(0x94D049BB133111EB)


def sample_ids(user_ids: Sequence[str], positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the id of each sample: 63 bits of BLAKE2b over (user id as text, target position).

    Parameters
    ----------
    user_ids : N user ids as text.
    positions : [N] integers, index of the target in the user's ordered log.

    Returns
    -------
    int64 [N], non-negative. The same log gives the same ids, whatever its files or their order.
    """
    targets = np.asarray(positions, dtype=np.int64)
    ids = np.empty(len(user_ids), dtype=np.int64)
    for row, (user, target) in enumerate(zip(user_ids, targets.tolist(), strict=True)):
        digest = blake2b(user.encode("utf-8"), digest_size=8, salt=target.to_bytes(8, "little")).digest()
        ids[row] = int.from_bytes(digest, "little") >> 1
    return ids


def user_keys(user_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return 63 bits of BLAKE2b of each user id, int64 [N]; users are grouped by these regardless of shard."""
    keys = (number >> 1 for number in _hashes(user_ids, b"user"))
    return np.fromiter(keys, dtype=np.int64, count=len(user_ids))


def item_keys(item_ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return 64 bits of BLAKE2b of each item id, by item index: uint64 [V + 1], 0 for the padding at index 0."""
    keys = np.zeros(len(item_ids) + 1, dtype=np.uint64)
    keys[1:] = np.fromiter(_hashes(item_ids, b"item"), dtype=np.uint64, count=len(item_ids))
    return keys


def event_keys(
    user_key: npt.NDArray[np.int64],
    item_key: npt.NDArray[np.uint64],
    timestamp: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.uint64]:
    """Return pseudo-random keys that break ties in time between interactions: hashes of (user, item, time).

    Parameters
    ----------
    user_key, item_key : [N], from `user_keys` and `item_keys`.
    timestamp : float64 [N], or None if times are unknown.

    Returns
    -------
    uint64 [N].
    """
    keys = _mix(_mix(np.ascontiguousarray(user_key).view(np.uint64)) ^ item_key)
    if timestamp is None:
        return keys
    # Adding 0.0 turns -0.0 into 0.0, so that equal times have equal bits.
    return _mix(keys ^ np.ascontiguousarray(timestamp + 0.0).view(np.uint64))


def user_shard(user_ids: Sequence[str], shards: int) -> npt.NDArray[np.int32]:
    """Return each user's shard, 0 to `shards` − 1. It is a hash of the id, so it does not depend on the files."""
    if shards < 1:
        raise ValueError(f"shards must be at least 1, got {shards}")
    numbers = (number % shards for number in _hashes(user_ids, b"shard"))
    return np.fromiter(numbers, dtype=np.int32, count=len(user_ids))


def _hashes(ids: Sequence[str], person: bytes) -> Iterator[int]:
    """Yield 64 bits of BLAKE2b of each id; different values of `person` give independent hashes."""
    for text in ids:
        yield int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8, person=person).digest(), "little")


def draw_order(sample_id: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Return pseudo-random keys that order samples for a draw: the k smallest keys are a uniform draw of k.

    The keys depend only on (sample id, seed), so a draw is a bottom-k merge of its shards. They are the output
    function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) applied twice.

    Parameters
    ----------
    sample_id : int64 [N].
    seed : any integer; different seeds give independent orders.

    Returns
    -------
    uint64 [N].
    """
    salt = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    return _mix(_mix(np.ascontiguousarray(sample_id).view(np.uint64) ^ salt))


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Apply one step of SplitMix64; unsigned overflow is intended."""
    mixed = value + _SPLITMIX_STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _SPLITMIX_A
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SPLITMIX_B
    return mixed ^ (mixed >> np.uint64(31))
