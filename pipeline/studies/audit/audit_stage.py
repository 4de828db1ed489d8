"""Stage audit: compare what scores predict about removals with what retraining without these samples did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from safetensors.numpy import load

from cluster.broadcast import Broadcast
from cluster.shards import ShardRecord
from pipeline.engine.graph import StageContext
from pipeline.ingest.statistics_record import train_count
from pipeline.stages.surrogate_source import trained_surrogate
from pipeline.studies.audit.audit_arms import (
    CONTROLS,
    AuditArm,
    ScoreSpec,
    removal_arms,
    score_groups,
    score_specs,
    subset_arms,
)
from pipeline.studies.audit.audit_rows import (
    RESULT,
    AuditResult,
    AuditRow,
    RemovalRow,
    ResampledEstimate,
    RetrainFacts,
    WayFacts,
    estimate_of,
    risk_score,
)
from pipeline.studies.audit.audit_scopes import audit_scopes
from pipeline.studies.audit.audit_table import (
    ScoreTables,
    best_of_families,
    planted_separation,
    score_row,
    subset_score,
    without_resamples,
)
from pipeline.studies.audit.effects import Effects
from pipeline.studies.audit.retrain_stage import best_epoch, measured, one_pass, planted_marks, planted_weights, retrain
from pipeline.studies.audit.scoring_worker import ScoreWorker


def run_audit(context: StageContext) -> Mapping[str, object]:
    """Score the samples in every way, then retrain without the extremes of the best scores.

    Both are passes on Ray that can resume.
    """
    section, target = context.config.audit, context.config.influence.target
    models = measured(context.folder("retrain"), section)
    arms = subset_arms(section)[1:]
    scopes = audit_scopes(section, context.folder("surrogate"))
    specs = score_specs(section, context.config.influence, scopes)
    tables, facts = _score(context, score_groups(specs), Effects.measured(arms, models[1:]))
    rows = _compare(context, specs, tables, facts, models[1:])
    best = best_of_families(specs, rows, target)
    extremes = removal_arms(section, [spec.label for spec in best])
    removals = retrain(context, context.out.child("extremes"), extremes, tables)
    result: AuditResult = {
        "scores": [without_resamples(row) for row in rows],
        "best": [spec.label for spec in best],
        "recommended": recommended(rows, target),
        "whole": _facts(models[0]),
        "removals": _removals(extremes, removals, models[0]),
        "samples": train_count(context.folder("ingest")),
        "subsets": len(arms),
        "epochs": best_epoch(context),
    }
    context.out.write_json(RESULT, result)
    return {
        "recommended": result["recommended"],
        "samples": result["samples"],
        "subsets": result["subsets"],
        "epochs": result["epochs"],
    }


def recommended(rows: Sequence[AuditRow], target: str) -> str | None:
    """Return the cheapest of the ways to score that are as good as the best, never a control or a misled one.

    A way is misled if wrong targets score above right ones beyond chance. It is as good as the best if it differs by no
    more than chance over resamples that they share: first in the prediction of the risk, then, among those, in the
    separation of wrong targets. Seconds are rounded to tenths; among equal ones the better score wins.
    """
    able = [
        (row, score)
        for row in rows
        if row["method"] not in CONTROLS
        and (score := risk_score(row, target)) is not None
        and not (row["auc"] and row["auc"]["high"] < 0.5)
    ]
    if not able:
        return None
    values = {row["label"]: score["value"] for row, score in able}
    close = _as_good([row for row, _ in able], lambda row: risk_score(row, target))
    close = _as_good(close, lambda row: row["auc"])
    return min(close, key=lambda row: (round(row["seconds"] or 0.0, 1), -values[row["label"]]))["label"]


def _as_good(rows: Sequence[AuditRow], measure: Callable[[AuditRow], ResampledEstimate | None]) -> Sequence[AuditRow]:
    """Return the rows that the best does not surpass beyond chance; all rows if none has the measure."""
    answered = [(estimate_of(found), row) for row in rows if (found := measure(row)) is not None]
    if not answered:
        return rows
    best = max((estimate for estimate, _ in answered), key=lambda estimate: estimate.value)
    return [row for estimate, row in answered if estimate.may_equal(best)]


def _score(
    context: StageContext, groups: Sequence[Sequence[ScoreSpec]], effects: Effects
) -> tuple[ScoreTables, dict[str, WayFacts]]:
    """Score the samples in every way; return the scores, and the facts of each way by its label."""
    out = context.out.child("scores")
    clean = trained_surrogate(context.folder("surrogate"), context.out, None)
    weights = load(planted_weights(context.folder("retrain")))
    arguments = {
        "groups": groups,
        "influence": context.config.influence,
        "audit": context.config.audit,
        "data": context.folder("ingest"),
        "clean": clean,
        "planted": replace(clean, weights=Broadcast.put(weights, context.out, "_planted.safetensors")),
        "effects": effects,
    }
    records = one_pass(context, out, ScoreWorker, arguments, 2 * len(groups))
    facts: dict[str, WayFacts] = {}
    for record in records[: len(groups)]:
        facts |= record.facts
    return ScoreTables(out, groups), facts


def _compare(
    context: StageContext,
    specs: Sequence[ScoreSpec],
    tables: ScoreTables,
    facts: Mapping[str, WayFacts],
    models: Sequence[ShardRecord],
) -> list[AuditRow]:
    """Return one row per way to score."""
    table = planted_marks(context.folder("retrain"))
    sample_id, planted = table["sample_id"].to_numpy(), table["planted"].to_numpy(zero_copy_only=False)
    arms = subset_arms(context.config.audit)[1:]
    risks = [record.facts[f"{context.config.influence.target}_risk"] for record in models]
    return [
        score_row(
            spec,
            facts[spec.label],
            mean=subset_score(sample_id, tables.read(spec.label), arms, risks),
            auc=planted_separation(tables.read(spec.label, planted=True), planted),
        )
        for spec in specs
    ]


def _removals(arms: Sequence[AuditArm], records: Sequence[ShardRecord], whole: ShardRecord) -> list[RemovalRow]:
    """Return what each removal did to the validation NDCG@10 and to the risks."""
    before = _facts(whole)
    return [
        {
            "kind": arm.kind,
            "score": arm.score,
            "seed": arm.seed,
            "removed": after["removed"],
            "ndcg_change": after["ndcg@10"] - before["ndcg@10"],
            "train_risk_change": after["train_risk"] - before["train_risk"],
            "valid_risk_change": after["valid_risk"] - before["valid_risk"],
        }
        for arm, after in zip(arms, map(_facts, records), strict=True)
    ]


def _facts(record: ShardRecord) -> RetrainFacts:
    """Return the facts that a retraining worker recorded."""
    return cast(RetrainFacts, record.facts)
