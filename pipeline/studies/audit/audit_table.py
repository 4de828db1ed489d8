"""Build the audit's table from scores and measured models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.shards import shard_name
from cluster.storage import Storage
from pipeline.studies.audit.audit_arms import AuditArm, ScoreSpec
from pipeline.studies.audit.queries import RISKS
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


def best_of_families(specs: Sequence[ScoreSpec], rows: Sequence[Mapping[str, Any]], target: str) -> list[ScoreSpec]:
    """Return, of each solver and scope, the damping with the highest score on the risk `target`; all controls."""
    measure = f"lds_{target}"
    best: dict[tuple[str, str | None], tuple[float, ScoreSpec]] = {}
    for spec, row in zip(specs, rows, strict=True):
        if row[measure] is not None and row[measure]["value"] > best.get(spec.family, (-np.inf, spec))[0]:
            best[spec.family] = (row[measure]["value"], spec)
    return [spec for _, spec in best.values()]


def score_row(spec: ScoreSpec, facts: Mapping[str, Any], mean: Estimate | None, auc: Estimate | None) -> dict[str, Any]:
    """Build the row of one way to score, for audit.json.

    Parameters
    ----------
    facts : what the worker found, including `lds_train` and `lds_valid`.
    mean : the score for the risk of all samples together.
    auc : the separation of planted targets.
    """
    keys = (*(f"lds_{risk}" for risk in RISKS), "seconds", "residual", "iterations", "parameters", "error")
    known = {key: facts.get(key) for key in keys}
    estimates = {key: None if value is None else asdict(value) for key, value in (("lds_mean", mean), ("auc", auc))}
    place = {"label": spec.label, "method": spec.method, "scope": spec.scope, "damping": spec.damping}
    return place | estimates | known


def without_resamples(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with only the values and intervals of its estimates."""
    return {
        key: {name: part for name, part in value.items() if name != "resampled"}
        if isinstance(value, Mapping)
        else value
        for key, value in row.items()
    }


def table_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the audit's table for a reader: one row per way to score, intervals in brackets."""
    changes = {(row["score"], row["kind"]): row["ndcg_change"] for row in result["removals"]}
    rows = []
    for row in result["scores"]:
        best = row["label"] in result["best"]
        rows.append(
            {
                "score": row["label"] + (" *" if row["label"] == result["recommended"] else ""),
                **{f"LDS {risk}": _interval(row[f"lds_{risk}"]) for risk in (*RISKS, "mean")},
                "AUC planted": _interval(row["auc"]),
                "NDCG@10 without top": _change(changes.get((row["label"], "top"))) if best else "-",
                "without bottom": _change(changes.get((row["label"], "bottom"))) if best else "-",
                "residual": "-" if row["residual"] is None else f"{row['residual']:.0e}",
                "solve s": "-" if row["error"] else f"{row['seconds']:.1f}",
            }
        )
    return rows


def recommended_setting(result: Mapping[str, Any]) -> str:
    """Return the recommended way as a line of a config, or that there is none."""
    for row in result["scores"]:
        if row["label"] == result["recommended"]:
            damping = "" if row["damping"] is None else f", damping: {row['damping']:g}"
            # A pattern may hold characters that mean something in YAML; a JSON string is valid YAML.
            return f"influence: {{solver: {row['method']}, scope: [{json.dumps(row['scope'])}]{damping}}}"
    return "none: not computed, or wrong targets score above right ones"


def _interval(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "not possible"
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
