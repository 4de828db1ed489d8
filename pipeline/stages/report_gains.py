"""What a run gained: the tuned LLM against the untuned one, and against random coresets of the run's comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.storage import Storage
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import read_manifest
from pipeline.engine.sample_tables import ragged_column
from pipeline.engine.selection_record import read_selection
from pipeline.report.report_data import SELECTION, TUNING, Gain
from pipeline.stages.model_names import UNTUNED
from pipeline.stages.stage_list import STAGES
from training.ranking.cutoffs import headline_cutoff
from training.ranking.ranking_metrics import Interval, paired_differences, user_metrics

RANDOM = "random"
#: Keys for which every arm has its own values.
_OWN = ("finetune.seed", "select.reference_users")


def read_gains(context: StageContext, metrics: Mapping[str, Any]) -> list[Gain]:
    """Return the gain over no tuning, and over random coresets of the same size if there are any.

    Parameters
    ----------
    metrics : the content of the evaluation's `metrics.json`.
    """
    focus, cutoff = metrics["focus"], headline_cutoff(metrics["cutoffs"])
    metric = f"ndcg@{cutoff}"
    mean = metrics["models"][focus][metric]["mean"]
    gains = []
    if UNTUNED in metrics["differences"]:
        theirs = metrics["models"][UNTUNED][metric]["mean"]
        difference = Interval(**metrics["differences"][UNTUNED][metric])
        gains.append(Gain(TUNING, "the untuned LLM", metric, mean, theirs, difference))
    if context.config.select.method == RANDOM:
        return gains
    ours = _predictions(context.folder("evaluate"), focus)
    arms = [ragged_column(table, "ranks") for table in _random_arms(context) if _same_users(ours, table)]
    if arms:
        found = paired_differences(ragged_column(ours, "ranks"), arms, (cutoff,), context.config.evaluate.seed)
        theirs = float(np.mean([np.nanmean(user_metrics(ranks, (cutoff,))[metric]) for ranks in arms]))
        several = f"{len(arms)} random coresets" if len(arms) > 1 else "a random coreset"
        gains.append(Gain(SELECTION, f"{several} of the same size", metric, mean, theirs, found[metric]))
    return gains


def _random_arms(context: StageContext) -> Iterator[pa.Table]:
    """Yield the predictions of each arm of `dealrec compare` that differs from the run in its samples alone."""
    run = context.run
    # Keys by which an arm's tuning may differ: its seed, and those that change no result.
    (free,) = ({*_OWN, *stage.elastic} for stage in STAGES if stage.name == "finetune")
    tuned, chosen = read_manifest(context.folder("finetune")), read_selection(context.folder("select"))
    names = run.read_json("arms/tried.json").get("llm", []) if run.exists("arms/tried.json") else []
    for name in names:
        if not name.startswith(f"{RANDOM}-n"):
            continue
        folders = [run.child("arms", name, folder) for folder in ("coreset", "model", "eval")]
        made = [read_manifest(folder) for folder in folders]
        if None in made or tuned is None or made[1] is None:
            continue
        settings = [{k: v for k, v in found.fingerprint.config.items() if k not in free} for found in (tuned, made[1])]
        if settings[0] == settings[1] and read_selection(folders[0])["chosen"] == chosen["chosen"]:
            yield _predictions(folders[2], folders[2].read_json("metrics.json")["focus"])


def _predictions(evaluation: Storage, label: str) -> pa.Table:
    table = evaluation.read_table("predictions.parquet", ["model", "sample_id", "targets", "ranks"])
    return table.filter(pc.equal(table.column("model"), label))


def _same_users(ours: pa.Table, theirs: pa.Table) -> bool:
    return all(ours.column(name).to_pylist() == theirs.column(name).to_pylist() for name in ("sample_id", "targets"))
