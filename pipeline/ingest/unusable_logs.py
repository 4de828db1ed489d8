"""Refuse logs that can be read but leave too little to work on, each with the cause and a remedy."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from cluster.errors import UserError
from pipeline.engine.wording import counted
from pipeline.ingest.core import Core
from pipeline.ingest.examine import catalogue_mismatch
from pipeline.ingest.ingest_spec import PARTS, IngestSpec
from pipeline.ingest.log_survey import LogSurvey
from pipeline.ingest.splits import TimeCuts
from pipeline.ingest.statistics import IngestTally
from pipeline.ingest.values.spelling import shown_id
from pipeline.ingest.vocabulary import Vocabulary


def require_rows(spec: IngestSpec, survey: LogSurvey) -> None:
    """Raise `UserError` if the rules on ids and ratings leave no interaction."""
    kept, low, unrated = survey.rows
    if kept:
        return
    if survey.missing_ids and not low + unrated:
        raise UserError(
            f"{spec.interactions}: data.missing_id: drop leaves out all {survey.missing_ids:,} interactions.",
            "Correct data.columns.user, data.columns.item or data.null_values.",
        )
    if low + unrated:
        raise UserError(
            f"{spec.interactions}: data.min_rating {spec.min_rating:g} drops all "
            f"{low + unrated:,} interactions ({low:,} rated lower, {unrated:,} without a rating).",
            "Lower data.min_rating.",
        )
    raise UserError(f"{spec.interactions}: the log is empty.", "Give a log with interactions.")


def require_titles(spec: IngestSpec, survey: LogSurvey, vocabulary: Vocabulary, catalogue: pa.Table | None) -> int:
    """Count the interactions of items whose titles can be used, duplicates included.

    Raises `UserError` if there are none.
    """
    kept = survey.rows[0] - vocabulary.dropped_interactions - vocabulary.long_interactions
    if kept:
        return kept
    if vocabulary.long_interactions:
        raise UserError(
            f"{spec.interactions}: the titles of all items of the log are too long, so nothing is left.",
            "Set llm.long_titles to cut, or raise llm.max_title_tokens and llm.max_tokens.",
        )
    why = catalogue_mismatch(survey.items, catalogue)
    raise UserError(
        f"{spec.interactions}: no item of the log has a title, so nothing is left." + (f" {why}" if why else ""),
        "Set data.items to the catalogue of this log. Its item ids must be those of the log.",
    )


def require_choice(spec: IngestSpec, vocabulary: Vocabulary) -> None:
    """Raise `UserError` if log and catalogue have one item: there is nothing to learn or to rank."""
    if len(vocabulary) == 1:
        item = shown_id(vocabulary.item_ids[0].as_py())
        raise UserError(
            f"{spec.interactions}: all interactions have the same item, {item}, so there is nothing to recommend.",
            "Give a log with several items, or correct data.columns.item.",
        )


def require_core(spec: IngestSpec, core: Core) -> None:
    """Raise `UserError` if `data.min_interactions` leaves nothing."""
    if core.interactions:
        return
    least = core.least
    raise UserError(
        f"{spec.interactions}: no interaction is left after {counted(core.rounds, 'round')} of dropping users with "
        f"fewer than {least.user} interactions and items with fewer than {least.item}.",
        "Lower data.min_interactions.",
    )


def require_parts(spec: IngestSpec, tally: IngestTally, cuts: TimeCuts | None) -> None:
    """Raise `UserError` if training, validation or test has nothing to work on."""
    lacking = [part for part, count in zip(PARTS, tally.samples, strict=True) if not count]
    if not lacking:
        return
    counts = ", ".join(f"{count:,} {part}" for part, count in zip(PARTS, tally.interactions, strict=True))
    at = f", cut at {cuts.train_until:g} and {cuts.valid_until:g}" if cuts else ""
    empty = [part for part, count in zip(PARTS, tally.interactions, strict=True) if not count]
    what = "too few interactions"
    if cuts is not None and cuts.train_until == cuts.valid_until:
        what = "too many interactions at one time"
    elif not empty:
        what = "too few users with earlier interactions"
    elif spec.split == "column":
        what = f"no interaction is marked {' or '.join(empty)}"
    raise UserError(
        f"{spec.interactions}: {what} for data.split: {spec.split}. It gives "
        f"{counts}{at}, and no {' and no '.join(lacking)} sample with a history before its target.",
        _of_parts(spec, empty),
    )


def _of_parts(spec: IngestSpec, empty: Sequence[str]) -> str:
    """Return what to do about a split with a part that has no samples, or not even interactions."""
    if spec.split == "column":
        first = f"Mark interactions as {' and as '.join(empty)}" if empty else "Give users who are in several parts"
        return f"{first}, or set data.split: global_time or leave_one_out to split the log again."
    if spec.split == "leave_one_out":
        return "Give a longer log: leave_one_out needs users with at least three interactions."
    first = "Give a longer log" if empty else "Give a log whose users come back"
    return f"{first}, or set data.split: leave_one_out, which needs users with at least three interactions."
