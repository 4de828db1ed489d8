"""A made-up run that fills every part of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.report import ReportData
from pipeline.report.report_data import Gain
from scoring.selection import ScoreShard, SelectionParams, select
from training.ranking.ranking_metrics import Interval

HOSTILE = "<script>alert('x')</script> & \"Co\""


def model_metrics(level: float) -> dict[str, dict[str, float]]:
    return {
        f"{name}@{cutoff}": {
            "mean": level * cutoff**0.5,
            "low": level * cutoff**0.5 * 0.9,
            "high": level * cutoff**0.5 * 1.1,
        }
        for cutoff in (5, 10, 20, 50)
        for name in ("recall", "ndcg", "mrr", "map")
    }


def list_figures(level: float) -> dict[str, float]:
    """Return figures of lists; one model writes no texts."""
    found = {
        f"{name}@{cutoff}": value * cutoff
        for cutoff in (5, 10, 20, 50)
        for name, value in {"coverage": level, "distinct": 7, "novelty": 0.8, "popularity": 20 * level}.items()
    }
    return found if level > 0.05 else {**found, "outside": 0.25}


def full_run(samples: int = 8000, **changes: Any) -> ReportData:
    """A finished run of `samples` samples; `changes` replace fields."""
    generator = np.random.default_rng(0)
    influence = (generator.standard_t(3, samples) * 1e-3).astype(np.float32)
    effort = generator.lognormal(size=samples).astype(np.float32)
    shard = ScoreShard(np.arange(samples), influence, effort, np.arange(samples) > 4)
    chosen = select(lambda: iter([shard]), SelectionParams(size=0.05, settings={"normalise": "robust"}))
    influence[0] = np.nan
    models = {"untuned": 0.003, "random coreset": 0.005, "DEALRec coreset": 0.0052, "surrogate": 0.0051}
    fields: dict[str, Any] = {
        "name": f"Shop {HOSTILE}",
        "created": "2026-01-02 03:04 UTC",
        "statistics": {"users": 700, "items": 90, "interactions": 12345, "dropped": {"missing_title": 3}},
        "stages": [
            {"name": "ingest", "seconds": 3.2, "status": "reused"},
            {"name": "effort", "seconds": 300, "status": "done"},
            {"name": "report", "seconds": None, "status": "not run"},
        ],
        "surrogate": {
            "epochs": [{"epoch": e, "train_loss": 5 / e, "valid": {"ndcg@10": 0.01 * e}} for e in range(1, 6)],
            "best_epoch": 5,
        },
        "influence": influence,
        "effort": effort,
        "picked_influence": chosen.influence,
        "picked_effort": chosen.effort,
        "selection": chosen.report,
        "finetune": {
            "train": [{"step": s, "loss": 3 / s} for s in range(1, 500)],
            "valid": [{"step": 100, "loss": 2.0}, {"step": 499, "loss": 1.5}],
            "untuned_loss": 3.1,
            "best_step": 499,
            "engine": "DeepSpeedEngine",
        },
        "metrics": {model: model_metrics(level) for model, level in models.items()},
        "slices": {
            "warm": {model: model_metrics(level) for model, level in models.items()},
            "cold": {"untuned": {"recall@10": float("nan")}},
        },
        "lists": {model: list_figures(10 * level) for model, level in models.items()},
        "gains": [
            Gain("tuning", "the untuned LLM", "ndcg@10", 0.0164, 0.0095, Interval(0.0069, 0.0012, 0.0131, 600)),
            Gain("the selection", "a random coreset", "ndcg@10", 0.0164, 0.0158, Interval(0.0006, -0.004, 0.006, 600)),
        ],
        "focus": "DEALRec coreset",
        "baseline": "untuned",
        "users_evaluated": 600,
        "examples": [
            {
                "user": HOSTILE,
                "history": [HOSTILE, "Heat (1995)", "七人の侍"],
                "generated": HOSTILE,
                "targets": ["Heat (1995)", HOSTILE],
                "lists": [
                    {
                        "model": name,
                        "rank": 1 + place,
                        "titles": [
                            {"title": "Fargo, the one with a rather long title (1996)", "hit": False},
                            {"title": HOSTILE, "hit": True},
                        ],
                    }
                    for place, name in enumerate(("DEALRec coreset", HOSTILE, "surrogate"))
                ],
            },
            {"user": "2", "history": [], "generated": None, "targets": [], "lists": []},
        ],
        "config_yaml": f"data:\n  items: '{HOSTILE}'\n  path: {'long/' * 60}\n",
        "provenance": {"git_commit": "0" * 40, "versions": {"torch": "2.13.0"}},
        "warnings": [HOSTILE],
    }
    return ReportData(**(fields | changes))
