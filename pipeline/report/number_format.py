"""Format numbers, durations and metric names for a reader."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_METRIC_NAMES = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "hit": "Hit rate", "hr": "Hit rate"}


def count(value: float) -> str:
    """Format a whole number with thousands separators."""
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Format a number with three significant digits, or in full if it is whole."""
    if not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e15:
        shown = f"{value:,.0f}"
    elif 1e-3 <= abs(value) < 1e5:
        shown = f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    else:
        shown = f"{value:.2e}"
    return shown.replace("-", MINUS)


def signed(value: float) -> str:
    """Format a difference of metrics with its sign and four decimals."""
    return f"{value:+.4f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Format a share, 0 to 1, with one decimal, or two below 1%."""
    return f"{share:.2%}" if 0 < share < 0.01 else f"{share:.1%}"


def metric_name(key: str) -> str:
    """Format "ndcg@10" as "NDCG@10"."""
    name, at, cutoff = key.partition("@")
    return _METRIC_NAMES.get(name.lower(), name) + at + cutoff


def scalar(value: object) -> str:
    """Format any leaf of a JSON-like value."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(scalar(part) for part in value)
    return str(value)


def flatten(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a nested mapping, named by their path."""
    for key, value in tree.items():
        name = prefix + str(key).replace("_", " ")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name} · ")
        else:
            yield name, scalar(value)
