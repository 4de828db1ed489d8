"""Run directories with an evaluation in them, written within no time, as `dealrec run` leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.storage import Storage
from pipeline.engine.config_file import dump_config, parse_config
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.stages.ranking_task import PREDICTIONS

TUNED = "LLM, tuned on dealrec coreset"
ITEMS = [f"i{number:03d}" for number in range(100)]


def write_run(
    folder: Path,
    ranks: Mapping[int, Sequence[int]],
    *,
    items: Sequence[str] = ITEMS,
    titles: Sequence[str] | None = None,
    cutoffs: Sequence[int] | None = (5, 10, 20, 50),
    mask_seen: bool = True,
    targets: Mapping[int, Sequence[int]] | None = None,
    seen: Mapping[int, Sequence[int]] | None = None,
) -> Storage:
    """Write a run whose tuned model gives the targets of each user these ranks; returns its directory.

    Parameters
    ----------
    ranks : by sample id, in the order of the draw.
    cutoffs : None writes what an evaluation wrote before there was the key.
    targets, seen : by sample id, where they are not the usual ones.
    """
    run = Storage.at(folder)
    run.write_text("config.yaml", dump_config(parse_config({"data": {"interactions": "log.parquet"}}, "c")))
    named = [f"Title {item}" for item in items] if titles is None else list(titles)
    run.write_table("data/items.parquet", pa.table({"item_id": list(items), "title": named, "count": [1] * len(items)}))
    chosen = {user: [1 + (user + place) % 90 for place in range(len(row))] for user, row in ranks.items()}
    chosen |= {user: list(row) for user, row in (targets or {}).items()}
    masked = {user: [95, 96] for user in ranks} | {user: list(row) for user, row in (seen or {}).items()}
    rows = [
        {"model": model, "sample_id": user, "user_id": f"u{user}", "targets": chosen[user], "ranks": placed}
        for model in (TUNED, "LLM, untuned")
        for user, row in ranks.items()
        for placed in [list(row) if model == TUNED else [60] * len(row)]
    ]
    table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
    known = {} if cutoffs is None else {"cutoffs": list(cutoffs)}
    run.write_table(
        "eval/predictions.parquet", table if cutoffs is not None else table.drop_columns(["items", "scores"])
    )
    run.write_json("eval/metrics.json", {"focus": TUNED, **known})
    for part, start in enumerate(range(0, len(ranks), 16)):
        users = list(ranks)[start : start + 16]
        columns = {"sample_id": users, "user_id": [f"u{user}" for user in users]}
        lists = {"history": [masked[user] for user in users], "seen": [masked[user] for user in users]}
        typed = {name: pa.array(values, pa.list_(pa.int32())) for name, values in lists.items()}
        run.write_table(f"eval/_users/part-{part:05d}.parquet", pa.table({**columns, **typed}))
    complete(run.child("data"), "ingest", {})
    complete(run.child("eval"), "evaluate", {"evaluate.mask_seen": mask_seen})
    return run


def complete(folder: Storage, stage: str, config: Mapping[str, object]) -> None:
    """Write the manifest of a complete stage."""
    Manifest(stage, Fingerprint(config, {}, 1), "", [], {}, 1.0, 1).write(folder)


def random_ranks(seed: int, users: Sequence[int], top: int = 40) -> dict[int, list[int]]:
    """Draw the rank of each user's one target from 1 to `top`."""
    drawn = np.random.default_rng(seed).integers(1, top + 1, len(users))
    return {user: [int(rank)] for user, rank in zip(users, drawn, strict=True)}
