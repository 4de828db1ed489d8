"""Format a comparison as rows of text for the terminal and the page."""

from __future__ import annotations

from pipeline.studies.compare.outcomes import TEST, ZERO_SHOT
from pipeline.studies.compare.records import ArmRow, ComparisonRecord, DifferenceKind, MetricRecord
from pipeline.studies.compare.verdict import METRIC

#: The metrics of the tables; every comparison has them, whatever evaluate.cutoffs says.
HEADLINE = ("recall@10", METRIC)
NOTHING = "-"
#: Cells by column.
TextRow = dict[str, str | int | float]


def summary_rows(result: ComparisonRecord, part: str = TEST) -> list[TextRow]:
    """Return a row for each model, selector and size: means over a part of the targets, what was learnt, and the cost.

    A comparison by the LLM also shows the validation loss, which can choose a selector before the test users are seen.
    """
    by_loss = any(row.get("valid_loss") is not None for row in result["rows"])
    return [
        {
            **_arm(row),
            "untuned": _untuned_text(row),
            **({"valid loss": _loss_text(row.get("valid_loss"))} if by_loss else {}),
            **{name: _mean_text(row["metrics"].get(part, {}).get(name)) for name in HEADLINE},
            "above, beyond chance": verdict_text(row, result["control"]),
            "seconds": round(row["seconds"]["total"], 1),
            "of full": NOTHING if row["seconds"]["of_full"] is None else f"{row['seconds']['of_full']:.2f}",
        }
        for row in result["rows"]
    ]


def difference_rows(result: ComparisonRecord, part: str = TEST) -> list[TextRow]:
    """Return a row for each model, selector and size: differences from the control and from zero-shot."""
    kinds = _kinds(result)
    return [
        _arm(row)
        | {
            f"{name} - {other}": difference_text(row["metrics"].get(part, {}).get(name), kind)
            for name in HEADLINE
            for kind, other in kinds.items()
        }
        for row in result["rows"]
    ]


def slice_rows(result: ComparisonRecord, kind: DifferenceKind = "difference", metric: str = METRIC) -> list[TextRow]:
    """Return a row for each model, selector and size: the difference on each part of the targets.

    Parameters
    ----------
    kind : `difference` for differences from the control, or `from_zero_shot`.
    """
    parts = list(dict.fromkeys(part for row in result["rows"] for part in row["metrics"]))
    other = _kinds(result)[kind]
    return [
        _arm(row)
        | {f"{part} - {other}": difference_text(row["metrics"].get(part, {}).get(metric), kind) for part in parts}
        for row in result["rows"]
    ]


def _kinds(result: ComparisonRecord) -> dict[DifferenceKind, str]:
    """Return the name of what each kind of difference is taken from."""
    return {"difference": result["control"], "from_zero_shot": ZERO_SHOT}


def _arm(row: ArmRow) -> TextRow:
    selector = row["selector"] + ("*" if row["sees_validation"] else "")
    return {"model": row["model"], "selector": selector, "samples": row["samples"]}


def verdict_text(row: ArmRow, control: str) -> str:
    """Name what a row is above, beyond chance: its control, zero-shot, both, or neither."""
    above = ((control, row["above_control"]), (ZERO_SHOT, row["above_zero_shot"]))
    return ", ".join(name for name, holds in above if holds) or NOTHING


def _untuned_text(row: ArmRow) -> str:
    """Show how many arms are best before any tuning."""
    return f"{row['untuned']}/{len(row['best_steps'])}" if row["best_steps"] else NOTHING


def _mean_text(found: MetricRecord | None) -> str:
    return NOTHING if found is None else f"{found['value']:.4f}"


def _loss_text(loss: float | None) -> str:
    return NOTHING if loss is None else f"{loss:.4f}"


def difference_text(found: MetricRecord | None, kind: DifferenceKind = "difference") -> str:
    """Format a difference with its interval; a dash where there is none, as for the control itself."""
    if not found or kind not in found:
        return NOTHING
    difference = found[kind]
    return f"{difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
