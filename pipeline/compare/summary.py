"""A comparison in the rows of a terminal's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.compare.outcomes import TEST
from pipeline.summary import HEADLINE

NOTHING = "-"


def summary_rows(result: Mapping[str, Any], part: str = TEST) -> list[dict[str, Any]]:
    """A row for each model, selector and size: means and differences from the control over a part of the targets.

    By the LLM also the validation loss, by which a selector can be chosen before its test users are looked at.
    """
    by_loss = any(row.get("valid_loss") is not None for row in result["rows"])
    return [
        {
            "model": row["model"],
            "selector": row["selector"] + ("*" if row["sees_validation"] else ""),
            "samples": row["samples"],
            **({"valid loss": _loss_text(row.get("valid_loss"))} if by_loss else {}),
            **_figures(row["metrics"].get(part, {}), result["control"]),
            "seconds": round(row["seconds"]["total"], 1),
            "of full": NOTHING if row["seconds"]["of_full"] is None else f"{row['seconds']['of_full']:.2f}",
        }
        for row in result["rows"]
    ]


def slice_rows(result: Mapping[str, Any], metric: str = "ndcg@10") -> list[dict[str, Any]]:
    """A row for each model, selector and size: the difference from the control on each part of the targets."""
    parts = list(dict.fromkeys(part for row in result["rows"] for part in row["metrics"]))
    return [
        {
            "model": row["model"],
            "selector": row["selector"] + ("*" if row["sees_validation"] else ""),
            "samples": row["samples"],
            **{part: difference_text(row["metrics"].get(part, {}).get(metric)) for part in parts},
        }
        for row in result["rows"]
    ]


def _figures(metrics: Mapping[str, Mapping[str, Any]], control: str) -> dict[str, str]:
    figures = {}
    for name in HEADLINE:
        found = metrics.get(name)
        figures[name] = NOTHING if found is None else f"{found['value']:.4f}"
        figures[f"{name} - {control}"] = difference_text(found)
    return figures


def _loss_text(loss: float | None) -> str:
    return NOTHING if loss is None else f"{loss:.4f}"


def difference_text(found: Mapping[str, Any] | None) -> str:
    """A difference with its interval; a dash for the control itself and where there is none."""
    if not found or "difference" not in found:
        return NOTHING
    difference = found["difference"]
    return f"{difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
