"""The expected result of ingest, computed in the slow and obvious way with pandas."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import pandas as pd

from scoring.ids import sample_ids

Row = dict[str, Any]
_64_BITS = (1 << 64) - 1


def tie_key(user: str, item: str, time: float) -> int:
    """Return the hash that orders interactions with the same time, in Python's integers."""
    key = _mixed(_mixed(_digest(user, b"user") >> 1) ^ _digest(item, b"item"))
    return _mixed(key ^ struct.unpack("<Q", struct.pack("<d", time + 0.0))[0])


def _digest(text: str, person: bytes) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=person).digest(), "little")


def _mixed(value: int) -> int:
    """Return one step of SplitMix64."""
    value = (value + 0x9E3779B97F4A7C15) & _64_BITS
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return value ^ (value >> 31)


def split_frame(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """Deduplicate and order the rows within users; add a column `part` (0, 1, 2).

    The frame has user, item (integers), item_id (text), timestamp, and split (0, 1, 2) when it is given.
    """
    rows = zip(frame["user"], frame["item_id"], frame["timestamp"], strict=True)
    frame = frame.assign(tie=np.array([tie_key(*row) for row in rows], dtype=np.uint64))
    frame = frame.sort_values(["user", "timestamp", "tie", "split"])
    frame = frame.drop_duplicates(["user", "timestamp", "item"], keep="first").reset_index(drop=True)
    if split == "column":
        frame = frame.sort_values(["user", "split", "timestamp", "tie"])
        return frame.assign(part=frame["split"])
    if split == "leave_one_out":
        size = frame.groupby("user")["item"].transform("size")
        from_end = size - 1 - frame.groupby("user").cumcount()
        return frame.assign(part=np.select([(size >= 3) & (from_end == 0), (size >= 3) & (from_end == 1)], [2, 1], 0))
    times = np.sort(frame["timestamp"].to_numpy())
    first = times[max(1, len(times) * 8 // 10) - 1]
    second = times[max(1, len(times) * 9 // 10) - 1]
    return frame.assign(part=(frame["timestamp"] > first).astype(int) + (frame["timestamp"] > second).astype(int))


def reference_tables(parted: pd.DataFrame, per_user: Literal["all"] | int, max_history: int) -> dict[str, list[Row]]:
    """Return the rows of sequences, train, valid and test, ordered by user."""
    tables: dict[str, list[Row]] = {"sequences": [], "train": [], "valid": [], "test": []}
    for user, log in parted.groupby("user", sort=True):
        items, times = log["item"].tolist(), log["timestamp"].tolist()
        train, valid = int((log["part"] == 0).sum()), int((log["part"] <= 1).sum())
        if train:
            tables["sequences"].append({"user_id": user, "items": items[:train]})
        positions = list(range(1, train))
        for position in positions if per_user == "all" else positions[-per_user:]:
            tables["train"].append(
                {
                    "sample_id": int(sample_ids([str(user)], [position])[0]),
                    "user_id": user,
                    "history": items[max(0, position - max_history) : position],
                    "target": items[position],
                    "position": position,
                    "timestamp": times[position],
                }
            )
        for name, first, end in (("valid", train, valid), ("test", valid, len(items))):
            if first and end > first:
                tables[name].append(
                    {
                        "sample_id": int(sample_ids([str(user)], [first])[0]),
                        "user_id": user,
                        "history": items[max(0, first - max_history) : first],
                        "targets": items[first:end],
                        "seen": items[:first],
                        "timestamp": times[first],
                    }
                )
    return tables
