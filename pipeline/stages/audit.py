"""Stage audit: retrain the surrogate without samples, and compare what happens with what the scores said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.numpy import load

from cluster.broadcast import Broadcast
from cluster.sharded_map import map_shards
from cluster.shards import ShardRecord
from cluster.storage import Storage
from pipeline.audit.effects import Effects
from pipeline.audit.results import ScoreTables, best_of_families, planted_separation, score_row, subset_score
from pipeline.audit.retraining import PLANTED_MODEL, PlantingWorker, RetrainWorker
from pipeline.audit.scores import ScoreWorker
from pipeline.audit.specs import CONTROLS, Arm, ScoreSpec, removal_arms, score_groups, score_specs, subset_arms
from pipeline.config import Config
from pipeline.graph import StageContext
from pipeline.stages.influence import surrogate_source
from pipeline.stages.influence_workers import SurrogateSource
from pipeline.stages.placement import scoring_pool
from pipeline.stages.surrogate import surrogate_spec
from training.surrogate_spec import SurrogateSpec

RESULT = "audit.json"


def run_audit(context: StageContext) -> Mapping[str, Any]:
    """Four passes on Ray, each resumable: retraining on subsets, planting, scoring, retraining on extremes."""
    audit = _Audit(context)
    subsets = subset_arms(context.config.audit)
    models = audit.retrain("subsets", subsets, None)
    planted = audit.plant()
    specs = score_specs(context.config.audit, context.config.influence)
    tables, facts = audit.score(score_groups(specs), planted, Effects.measured(subsets[1:], models[1:]))
    rows = audit.compare(specs, tables, facts, subsets[1:], models[1:])
    target = context.config.influence.target
    best = best_of_families(specs, rows, target)
    extremes = removal_arms(context.config.audit, [spec.label for spec in best])
    removals = audit.retrain("extremes", extremes, tables)
    result = {
        "scores": rows,
        "best": [spec.label for spec in best],
        "recommended": recommended(rows, target),
        "whole": dict(models[0].facts),
        "removals": _removals(extremes, removals, models[0]),
        "samples": audit.samples,
        "subsets": len(subsets) - 1,
        "epochs": audit.epochs,
    }
    context.out.write_json(RESULT, result)
    return {key: result[key] for key in ("recommended", "samples", "subsets", "epochs")}


def recommended(rows: Sequence[Mapping[str, Any]], target: str) -> str | None:
    """The way with the cheapest solve whose score is within the interval of the best one; never a control.

    Solves within the same tenth of a second cost the same; the better score is then taken.
    """
    measure = f"lds_{target}"
    able = [row for row in rows if row["method"] not in CONTROLS and row[measure] is not None]
    if not able:
        return None
    best = max(able, key=lambda row: row[measure]["value"])
    close = [row for row in able if row[measure]["value"] >= best[measure]["low"]]
    return str(min(close, key=lambda row: (round(row["seconds"], 1), -row[measure]["value"]))["label"])


class _Audit:
    """The passes of one audit over one run."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._config: Config = context.config
        self._data = context.folder("ingest")
        self._surrogate = context.folder("surrogate")
        self.epochs = int(self._surrogate.read_json("metrics.json")["best_epoch"])
        statistics = self._data.read_json("statistics.json")
        self.samples = int(statistics["samples"]["train"])

    def retrain(self, folder: str, arms: Sequence[Arm], scores: ScoreTables | None) -> list[ShardRecord]:
        arguments = {
            "spec": self._spec(),
            "epochs": self.epochs,
            "data": self._data,
            "arms": arms,
            "audit": self._config.audit,
            "scores": scores,
        }
        return self._pass(RetrainWorker, arguments, len(arms), folder)

    def plant(self) -> SurrogateSource:
        """Trains on the planted log; the surrogate of that."""
        section, out = self._config.audit, self._out("planted")
        arguments = {
            "spec": self._spec(),
            "epochs": self.epochs,
            "data": self._data,
            "share": section.planted,
            "seed": section.seed,
            "out": out,
        }
        self._pass(PlantingWorker, arguments, 1, "planted")
        weights = Broadcast.put(load(out.read_bytes(PLANTED_MODEL)), out, "_weights.safetensors")
        return replace(self._clean(), weights=weights)

    def score(
        self, groups: Sequence[Sequence[ScoreSpec]], planted: SurrogateSource, effects: Effects
    ) -> tuple[ScoreTables, dict[str, Any]]:
        """The scores, and what is known of each way by its label."""
        arguments = {
            "groups": groups,
            "influence": self._config.influence,
            "audit": self._config.audit,
            "data": self._data,
            "clean": self._clean(),
            "planted": planted,
            "effects": effects,
        }
        records = self._pass(ScoreWorker, arguments, 2 * len(groups), "scores")
        facts: dict[str, Any] = {}
        for record in records[: len(groups)]:
            facts |= record.facts
        return ScoreTables(self._out("scores"), groups), facts

    def compare(
        self,
        specs: Sequence[ScoreSpec],
        tables: ScoreTables,
        facts: Mapping[str, Any],
        arms: Sequence[Arm],
        models: Sequence[ShardRecord],
    ) -> list[dict[str, Any]]:
        """A row a way to score."""
        planted = self._out("planted").read_table("part-00000.parquet")
        sample_id, marks = planted["sample_id"].to_numpy(), planted["planted"].to_numpy(zero_copy_only=False)
        target = self._config.influence.target
        risks = [record.facts[f"{target}_risk"] for record in models]
        return [
            score_row(
                spec,
                facts[spec.label],
                mean=subset_score(sample_id, tables.read(spec.label), arms, risks),
                auc=planted_separation(tables.read(spec.label, planted=True), np.asarray(marks)),
            )
            for spec in specs
        ]

    def _pass(self, worker: Any, arguments: Mapping[str, Any], shards: int, folder: str) -> list[ShardRecord]:
        pool = scoring_pool(self._context, shards)
        return map_shards(worker, arguments, range(shards), self._out(folder), pool, self._context.progress)

    def _out(self, folder: str) -> Storage:
        return self._context.out.child(folder)

    def _clean(self) -> SurrogateSource:
        return surrogate_source(self._surrogate, self._context.out, None)

    def _spec(self) -> SurrogateSpec:
        return replace(surrogate_spec(self._config), workers=1)


def _removals(arms: Sequence[Arm], records: Sequence[ShardRecord], whole: ShardRecord) -> list[dict[str, Any]]:
    """What each removal did to the validation NDCG@10 and to the risks."""
    return [
        {
            "kind": arm.kind,
            "score": arm.score,
            "seed": arm.seed,
            "removed": record.facts["removed"],
            "ndcg_change": record.facts["ndcg@10"] - whole.facts["ndcg@10"],
            "train_risk_change": record.facts["train_risk"] - whole.facts["train_risk"],
            "valid_risk_change": record.facts["valid_risk"] - whole.facts["valid_risk"],
        }
        for arm, record in zip(arms, records, strict=True)
    ]
