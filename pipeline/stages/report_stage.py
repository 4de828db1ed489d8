"""Stage report: the run on one page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from cluster.digest import json_digest
from cluster.masking import masked
from pipeline.engine.config_file import shown_config
from pipeline.engine.graph import StageContext
from pipeline.engine.json_value import JsonRecord, JsonValue
from pipeline.engine.manifest import Manifest, environment, read_manifest
from pipeline.engine.sample_tables import train_shards
from pipeline.engine.selection_record import read_selection
from pipeline.ingest.statistics_record import read_statistics
from pipeline.report import ReportData, render_report
from pipeline.stages.model_names import UNTUNED
from pipeline.stages.report_examples import read_examples
from pipeline.stages.report_gains import read_gains
from scoring.ids import draw_order

#: Samples shown at most; more are drawn by hash.
_SHOWN = 200_000


def run_report(context: StageContext) -> Mapping[str, object]:
    """Gather what the stages left behind and write `report.html` at the top of the run."""
    html = render_report(gather(context))
    context.run.write_text("report.html", html)
    context.progress.update(1, 1)
    return {"bytes": len(html.encode("utf-8")), "digest": json_digest(html)}


def gather(context: StageContext) -> ReportData:
    """Gather the report's content from the run directory."""
    data, config = context.folder("ingest"), context.config
    scores = read_score_columns(context, len(train_shards(data)))
    coreset = context.folder("select").read_table("coreset.parquet", ["influence", "effort"])
    metrics = context.folder("evaluate").read_json("metrics.json")
    losses = context.folder("finetune").read_json("losses.json")
    manifests = {name: read_manifest(folder) for name, folder in context.folders.items()}
    return ReportData(
        name=masked(config.data.interactions).rstrip("/").rsplit("/", 1)[-1],
        created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        statistics=cast(JsonRecord, read_statistics(data)),
        stages=[_stage_row(name, manifest) for name, manifest in manifests.items()],
        surrogate=_without(context.folder("surrogate").read_json("metrics.json"), "config", "workers"),
        influence=scores.get("influence"),
        effort=scores.get("effort"),
        picked_influence=coreset.column("influence").to_numpy(),
        picked_effort=coreset.column("effort").to_numpy(),
        selection=read_selection(context.folder("select")),
        finetune={
            **_without(losses, "learning_rate", "versions", "workers"),
            "train": [{"step": step, "loss": loss} for step, loss in enumerate(losses["train"], start=1)],
            "best_step": next(row["step"] for row in losses["valid"] if row["epoch"] == losses["best"]["epoch"]),
        },
        metrics=metrics["models"],
        slices=metrics["slices"],
        lists=metrics["lists"],
        gains=read_gains(context, metrics),
        focus=metrics["focus"],
        baseline=UNTUNED if UNTUNED in metrics["models"] else None,
        users_evaluated=metrics["users"],
        examples=read_examples(context.folder("evaluate"), data, metrics["focus"]),
        config_yaml=shown_config(config),
        provenance={
            **environment(),
            "fingerprints": {n: m.fingerprint.digest for n, m in manifests.items() if m is not None},
        },
    )


def _without(values: Mapping[str, JsonValue], *keys: str) -> dict[str, JsonValue]:
    """Keep what a page has room for; the rest is in the stage's own files."""
    return {key: value for key, value in values.items() if key not in keys}


def _stage_row(name: str, manifest: Manifest | None) -> dict[str, JsonValue]:
    if manifest is None:
        return {"name": name, "seconds": None, "status": "not run"}
    return {"name": name, "seconds": manifest.seconds, "status": "done"}


def read_score_columns(context: StageContext, shards: int) -> dict[str, npt.NDArray[np.float32]]:
    """Read the scores that the run has, of all samples, or of a draw of them if there are too many to show."""
    keys: list[npt.NDArray[np.uint64]] = []
    columns: dict[str, list[npt.NDArray[np.float32]]] = {
        name: [] for name in ("influence", "effort") if name in context.folders
    }
    for index in range(shards):
        for score, parts in columns.items():
            table = context.folder(score).read_table(f"part-{index:05d}.parquet")
            parts.append(table.column(score).to_numpy())
            if score == next(iter(columns)):
                keys.append(draw_order(table.column("sample_id").to_numpy(), 0))
    scores = {score: np.concatenate(parts) for score, parts in columns.items()}
    if keys and sum(map(len, keys)) > _SHOWN:
        shown = np.argpartition(np.concatenate(keys), _SHOWN)[:_SHOWN]
        scores = {score: values[shown] for score, values in scores.items()}
    return scores
