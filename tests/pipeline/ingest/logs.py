"""Small logs in every format, for the tests of this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cluster.storage import Storage


def make_log(users: int = 40, items: int = 25, seed: int = 0) -> pd.DataFrame:
    """A log with ties in time, users of every length, and ids that are integers."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 15, size=users)
    user = np.repeat(np.arange(1, users + 1), lengths)
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": random.integers(1, items + 1, size=len(user)) * 7,
            "timestamp": 1_000_000_000 + random.integers(0, 200, size=len(user)),
            "rating": random.integers(1, 6, size=len(user)),
        }
    )


def make_catalogue(log: pd.DataFrame) -> pd.DataFrame:
    ids = np.unique(log["item_id"])
    return pd.DataFrame({"item_id": ids, "title": [f'Title, "{number}"' for number in ids]})


def _recbole(frame: pd.DataFrame, path: Path) -> None:
    kinds = {
        "user_id": "token",
        "item_id": "token",
        "timestamp": "float",
        "rating": "float",
        "title": "token_seq",
    }
    frame.rename(columns={name: f"{name}:{kind}" for name, kind in kinds.items()}).to_csv(path, sep="\t", index=False)


def _jsonl(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")), encoding="utf-8")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "parquet": lambda frame, path: frame.to_parquet(path, index=False),
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "csv.xz": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "jsonl": _jsonl,
    "inter": _recbole,
    "item": _recbole,
}


def write(frame: pd.DataFrame, path: Path) -> str:
    """Write a frame in the format of the extension; return the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.name.split(".", 1)[1]](frame, path)
    return str(path)


def files_of(storage: Storage) -> dict[str, bytes]:
    """Return every file of a folder with its bytes."""
    root = Path(storage.uri)
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def read_parts(storage: Storage, folder: str) -> list[dict[str, object]]:
    """The rows of all parts of a table, in the order of the parts."""
    names: Sequence[str] = storage.list(folder, suffix=".parquet")
    return [row for name in names for row in storage.read_table(f"{folder}/{name}").to_pylist()]
