"""A small log with something to learn: users walk along chains of items, and every item has a title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

CHAINS, LENGTH = 5, 8
_WORDS = ("red", "blue", "green", "old", "new")
_THINGS = ("fox", "river", "castle", "engine", "garden", "winter", "mirror", "island")


def small_log(users: int = 60, seed: int = 0) -> pa.Table:
    """Interactions of `users` users over 40 items: user_id, item_id, title, timestamp."""
    generator = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, int]] = []
    for user in range(users):
        chain, start = int(generator.integers(CHAINS)), int(generator.integers(LENGTH))
        for step in range(int(generator.integers(5, 9))):
            if generator.random() < 0.15:
                chain = int(generator.integers(CHAINS))
            thing = (start + step) % LENGTH
            title = f"{_WORDS[chain]} {_THINGS[thing]}"
            rows.append((f"u{user}", f"i{chain * LENGTH + thing}", title, 1000 * step + user))
    columns = list(zip(*rows, strict=True))
    return pa.table(dict(zip(("user_id", "item_id", "title", "timestamp"), map(list, columns), strict=True)))


def write_config(folder: Path, log: Path, model: Path, /, **sections: dict[str, object]) -> Path:
    """A config that runs in seconds on the small log and a tiny LLM."""
    values: dict[str, dict[str, object]] = {
        "data": {"interactions": str(log), "split": "leave_one_out"},
        "samples": {"per_user": "all", "max_history": 8, "shards": 24},
        "surrogate": {"hidden": 16, "epochs": 3, "batch_tokens": 512},
        "influence": {"damping": 0.05, "curvature_samples": 64},
        "select": {"size": 24, "strata": 6},
        "llm": {"model": str(model), "dtype": "float32", "template": "movies", "max_items": 3, "max_tokens": 256},
        "finetune": {"epochs": 2, "global_batch": 8, "lr": 0.01, "workers": 1, "valid_users": 16, "patience": 0},
        "evaluate": {"users": 20, "beams": 2, "max_new_tokens": 12},
        "cluster": {"actors": 1, "gpus": 0},
    }
    for name, keys in sections.items():
        values[name] = {**values.get(name, {}), **keys}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def write_log(path: Path, table: pa.Table | None = None) -> Path:
    """The log as one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(small_log() if table is None else table, path)
    return path
