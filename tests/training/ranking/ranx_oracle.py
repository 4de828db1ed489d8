"""Metrics by ranx, in a process of its own: cut-offs, targets and rankings come in as JSON, values by user go out.

Run it with NUMBA_DISABLE_JIT=1: to compile ranx takes half a minute, to interpret it on a few users takes none.
"""

from __future__ import annotations

import json
import sys

from ranx import Qrels, Run, evaluate

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    # ranx sorts the users by name.
    names = [f"u{user:04d}" for user in range(len(asked["targets"]))]
    relevant = {name: {str(item): 1 for item in items} for name, items in zip(names, asked["targets"], strict=True)}
    ranked = {
        name: {str(item): float(len(items) - place) for place, item in enumerate(items)}
        for name, items in zip(names, asked["rankings"], strict=True)
    }
    metrics = [f"{name}@{cutoff}" for name in ("recall", "ndcg", "mrr", "map") for cutoff in asked["cutoffs"]]
    found = evaluate(Qrels(relevant), Run(ranked), metrics, return_mean=False)
    json.dump({name: list(map(float, values)) for name, values in found.items()}, sys.stdout)
