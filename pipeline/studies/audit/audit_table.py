"""Build the audit's table from scores and measured models."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.engine.estimate_record import estimate_record
from pipeline.studies.audit.audit_arms import AuditArm, ScoreSpec
from pipeline.studies.audit.audit_rows import (
    AuditResult,
    AuditRow,
    ResampledEstimate,
    WayFacts,
    estimate_of,
    resampled_record,
    risk_score,
)
from scoring.datamodeling import Estimate, linear_datamodeling_score, separation

Scores = npt.NDArray[np.float32]


class ScoreTables:
    """The scores that the workers wrote, by label."""

    def __init__(self, folder: Storage, groups: Sequence[Sequence[ScoreSpec]]) -> None:
        self._folder = folder
        self._count = len(groups)
        self._group = {spec.label: place for place, group in enumerate(groups) for spec in group}

    def read(self, label: str, planted: bool = False) -> Scores:
        """Read scores, float32 [N]; NaN if they could not be computed, or were not asked of the planted log."""
        index = self._group[label] + (self._count if planted else 0)
        scores: Scores = self._folder.read_table(f"{shard_name(index)}.parquet", [label])[label].to_numpy()
        return scores


def subset_score(
    sample_id: npt.NDArray[np.int64], scores: Scores, arms: Sequence[AuditArm], risks: Sequence[float]
) -> Estimate | None:
    """Return the linear datamodeling score of one way for the risk of all samples; None if a score is missing."""
    if not np.isfinite(scores).all():
        return None
    predicted = [float(scores[arm.removed(sample_id, None)].sum(dtype=np.float64)) for arm in arms]
    return linear_datamodeling_score(predicted, risks)


def planted_separation(scores: Scores, planted: npt.NDArray[np.bool_]) -> Estimate | None:
    """Return the AUC of clean samples scoring above planted ones, among the samples that were scored."""
    scored = np.isfinite(scores)
    low, high = scores[scored & planted], scores[scored & ~planted]
    return separation(low, high) if len(low) and len(high) else None


def best_of_families(specs: Sequence[ScoreSpec], rows: Sequence[AuditRow], target: str) -> list[ScoreSpec]:
    """Return, of each solver and scope, the damping with the highest score on the risk `target`; all controls."""
    best: dict[tuple[str, str | None], tuple[float, ScoreSpec]] = {}
    for spec, row in zip(specs, rows, strict=True):
        score = risk_score(row, target)
        if score is not None and score["value"] > best.get(spec.family, (-np.inf, spec))[0]:
            best[spec.family] = (score["value"], spec)
    return [spec for _, spec in best.values()]


def score_row(spec: ScoreSpec, facts: WayFacts, mean: Estimate | None, auc: Estimate | None) -> AuditRow:
    """Build the row of one way to score, for audit.json.

    Parameters
    ----------
    facts : what the worker found, including `lds_train` and `lds_valid`.
    mean : the score for the risk of all samples together.
    auc : the separation of planted targets.
    """
    return {
        "label": spec.label,
        "method": spec.method,
        "scope": spec.scope,
        "damping": spec.damping,
        "lds_train": facts.get("lds_train"),
        "lds_valid": facts.get("lds_valid"),
        "lds_mean": None if mean is None else resampled_record(mean),
        "auc": None if auc is None else resampled_record(auc),
        "seconds": facts.get("seconds"),
        "residual": facts.get("residual"),
        "iterations": facts.get("iterations"),
        "parameters": facts.get("parameters"),
        "error": facts.get("error"),
    }


def without_resamples(row: AuditRow) -> AuditRow:
    """Return the row with only the values and intervals of its estimates."""
    return {
        **row,
        "lds_train": _short(row["lds_train"]),
        "lds_valid": _short(row["lds_valid"]),
        "lds_mean": _short(row["lds_mean"]),
        "auc": _short(row["auc"]),
    }


def _short(estimate: ResampledEstimate | None) -> ResampledEstimate | None:
    return None if estimate is None else {**estimate_record(estimate_of(estimate))}


def table_rows(result: AuditResult) -> list[dict[str, str]]:
    """Return the audit's table for a reader: one row per way to score, intervals in brackets."""
    changes = {(row["score"], row["kind"]): row["ndcg_change"] for row in result["removals"]}
    rows = []
    for row in result["scores"]:
        best = row["label"] in result["best"]
        rows.append(
            {
                "score": row["label"] + (" *" if row["label"] == result["recommended"] else ""),
                "LDS train": _interval(row["lds_train"]),
                "LDS valid": _interval(row["lds_valid"]),
                "LDS mean": _interval(row["lds_mean"]),
                "AUC planted": _interval(row["auc"]),
                "NDCG@10 without top": _change(changes.get((row["label"], "top"))) if best else "-",
                "without bottom": _change(changes.get((row["label"], "bottom"))) if best else "-",
                "residual": "-" if row["residual"] is None else f"{row['residual']:.0e}",
                "solve s": "-" if row["error"] or row["seconds"] is None else f"{row['seconds']:.1f}",
            }
        )
    return rows


def recommended_setting(result: AuditResult) -> str:
    """Return the recommended way as a line of a config, or that there is none."""
    for row in result["scores"]:
        if row["label"] == result["recommended"]:
            damping = "" if row["damping"] is None else f", damping: {row['damping']:g}"
            # A pattern may hold characters that mean something in YAML; a JSON string is valid YAML.
            return f"influence: {{solver: {row['method']}, scope: [{json.dumps(row['scope'])}]{damping}}}"
    return "none: not computed, or wrong targets score above right ones"


def _interval(estimate: ResampledEstimate | None) -> str:
    if estimate is None:
        return "not possible"
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
