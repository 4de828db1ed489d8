"""What a user should know about an ingested log without opening its statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from pipeline.engine.wording import counted
from pipeline.ingest.statistics_record import IngestStatistics, LogTotals
from training.loops.repeats import masking_notice

log = logging.getLogger("dealrec.ingest")

#: Ties distort a model or a metric from these shares of consecutive pairs and of users with a target.
_TIED_PAIRS = 0.05
_TIED_TARGETS = 0.01
#: One user is hardly a person from this share of all interactions and this multiple of the others' mean.
_ONE_USER, _TIMES_OTHERS = 0.05, 20


def warnings_of(statistics: LogTotals) -> list[str]:
    """Return warnings about what may distort the results, each with its remedy."""
    return [*_one_user(statistics), *_order(statistics), *_leakage(statistics)]


def say(statistics: IngestStatistics) -> None:
    """Log the sizes, what was dropped, and the warnings."""
    log.info(
        "%s, %s, %s; %s",
        counted(statistics["users"], "user"),
        counted(statistics["items"]["all"], "item"),
        counted(statistics["interactions"]["kept"], "interaction"),
        counted(statistics["samples"]["train"], "train sample"),
    )
    for reason, count in statistics["dropped"].items():
        if isinstance(count, int) and count:
            log.info("dropped %s: %s", counted(count, "interaction"), reason.replace("_", " "))
    for warning in statistics["warnings"]:
        log.warning("%s", warning)


def warn_of_repeats(statistics: LogTotals) -> None:
    """Warn, before anything is trained, that `evaluate.mask_seen` will mask most held-out targets."""
    repeated, targets = statistics["repeated_targets"], statistics["targets"]
    for notice in (
        masking_notice(repeated["test"], targets["test"], "test"),
        masking_notice(repeated["valid"], targets["valid"], "validation"),
    ):
        if notice is not None:
            log.warning("%s.", notice)


def _one_user(statistics: LogTotals) -> Iterator[str]:
    kept, most, user = (
        statistics["interactions"]["kept"],
        statistics["sequence_length"]["max"],
        statistics["longest_user"],
    )
    others = (kept - most) / max(1, statistics["users"] - 1)
    if most >= _ONE_USER * kept and most >= _TIMES_OTHERS * others > 0:
        yield (
            f"User '{user}' has {most:,} of {kept:,} interactions ({most / kept:.0%}), {most / others:,.0f} times the "
            "mean of the others. If this id stands for anonymous users, set data.null_values: "
            f"['{user}'] and data.missing_id: drop to leave its interactions out."
        )


def _order(statistics: LogTotals) -> Iterator[str]:
    ties = statistics["ties"]
    pairs = ties["consecutive_pairs"] / max(1, ties["of_consecutive_pairs"])
    targets = ties["users_with_tied_target"] / max(1, ties["of_users_with_target"])
    if pairs >= _TIED_PAIRS or targets >= _TIED_TARGETS:
        yield (
            f"{pairs:.0%} of consecutive interactions of a user have the same time, and the held-out target of "
            f"{targets:.0%} of the users has the time of the interaction before it. The log does not say which came "
            "first, so a hash decides. If a column of the log gives the order, set data.columns.position to it."
        )
    if statistics["users_out_of_order"]:
        yield (
            f"{counted(statistics['users_out_of_order'], 'user has', 'users have')} a split that contradicts time; "
            "their interactions are ordered train, valid, test."
        )


def _leakage(statistics: LogTotals) -> Iterator[str]:
    if statistics["split"] == "leave_one_out":
        yield (
            "data.split: leave_one_out trains on interactions of other users that are later than a test target, so "
            "its metrics are better than a deployed model's. Use global_time if the log has times."
        )
