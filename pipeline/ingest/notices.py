"""What a user should know about an ingested log without opening its statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

log = logging.getLogger("dealrec.ingest")

#: Shares of consecutive pairs, and of users with a target, from which ties distort a model or a metric.
_TIED_PAIRS = 0.05
_TIED_TARGETS = 0.01
#: The share of all interactions, and the multiple of the others' mean, from which one user is hardly a person.
_ONE_USER, _TIMES_OTHERS = 0.05, 20


def warnings_of(statistics: Mapping[str, Any]) -> list[str]:
    """Return warnings about what may distort the results, each with its remedy."""
    return [*_one_user(statistics), *_order(statistics), *_leakage(statistics)]


def say(statistics: Mapping[str, Any]) -> None:
    """Log the sizes, what was dropped, and the warnings."""
    log.info(
        "%s users, %s items, %s interactions; %s train samples",
        f"{statistics['users']:,}",
        f"{statistics['items']['all']:,}",
        f"{statistics['interactions']['kept']:,}",
        f"{statistics['samples']['train']:,}",
    )
    for reason, count in statistics["dropped"].items():
        if count:
            log.info("dropped %s interactions: %s", f"{count:,}", reason.replace("_", " "))
    for warning in statistics["warnings"]:
        log.warning("%s", warning)


def _one_user(statistics: Mapping[str, Any]) -> Iterator[str]:
    kept, most, user = (
        statistics["interactions"]["kept"],
        statistics["sequence_length"]["max"],
        statistics["longest_user"],
    )
    others = (kept - most) / max(1, statistics["users"] - 1)
    if most >= _ONE_USER * kept and most >= _TIMES_OTHERS * others > 0:
        yield (
            f"User '{user}' has {most:,} of {kept:,} interactions ({most / kept:.0%}), {most / others:,.0f} times the "
            "mean of the others. If it stands for people who are not known, put it into data.null_values: "
            f"['{user}'] and set data.missing_id: drop to leave its interactions out."
        )


def _order(statistics: Mapping[str, Any]) -> Iterator[str]:
    ties = statistics["ties"]
    pairs = ties["consecutive_pairs"] / max(1, ties["of_consecutive_pairs"])
    targets = ties["users_with_tied_target"] / max(1, ties["of_users_with_target"])
    if pairs >= _TIED_PAIRS or targets >= _TIED_TARGETS:
        yield (
            f"{pairs:.0%} of consecutive interactions of a user have the same time, and the held-out target of "
            f"{targets:.0%} of the users has the time of the interaction before it. The log does not say which came "
            "first, so a hash decides. If the log knows the order, set data.columns.position to the column with it."
        )
    if statistics["users_out_of_order"]:
        yield (
            f"{statistics['users_out_of_order']:,} users have a split that contradicts time; "
            "train, valid, test was taken as their order."
        )


def _leakage(statistics: Mapping[str, Any]) -> Iterator[str]:
    if statistics["split"] == "leave_one_out":
        yield (
            "data.split: leave_one_out trains on interactions of other users that are later than a test target, so "
            "its figures are better than a deployed model's. Use global_time where the log has times."
        )
