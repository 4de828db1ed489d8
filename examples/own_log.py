"""A log in a data frame in, a coreset out.

    python examples/own_log.py [RUN_DIR]

Put your own log and titles in place of `read_log`. Columns of other names are told by
`{"interactions": log, "columns": {"user": "customer", "item": "sku", "timestamp": "bought_at"}}`.
"""

import sys

import numpy as np
import pandas as pd

import dealrec


def read_log(users: int = 200, items: int = 60, steps: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A made-up log: each user walks along the catalogue, with a jump now and then."""
    generator = np.random.default_rng(0)
    user = np.repeat(np.arange(users), steps)
    walk = generator.integers(items, size=users).repeat(steps) + np.tile(np.arange(steps), users)
    jump = generator.integers(items, size=users * steps) * (generator.random(users * steps) < 0.2)
    day = np.tile(np.arange(steps), users) * 7 + generator.integers(7, size=users * steps)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": (walk + jump) % items,
            "timestamp": pd.Timestamp("2026-01-01") + pd.to_timedelta(day, "D"),
        }
    )
    titles = pd.DataFrame({"item_id": np.arange(items), "title": [f"Volume {item}" for item in range(items)]})
    return log, titles


def main(run_dir: str) -> None:
    log, titles = read_log()
    run = dealrec.run(
        {"interactions": log, "items": titles},
        samples={"per_user": "all"},
        surrogate={"hidden": 16, "epochs": 5},
        # The default, dealrec, also asks the LLM; this one reads the log alone.
        select={"method": "reference_popularity", "size": 0.1},
        until="select",
        run_dir=run_dir,
        progress=True,
    )
    coreset = run.coreset().to_pandas()
    print(coreset[["user_id", "history", "target", "target_title"]].head())
    print(f"{len(coreset)} samples of {len(log)} interactions in {run.run_dir}")
    for warning in run.warnings:
        print("note:", warning)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/own_log")
