"""The forecast of `dealrec plan` against the actual run.

    python -m benchmarks.plan --interactions LOG --items CATALOGUE --split column --model LLM

The plan sees a share of the log. Then the whole run is made with the same config on the same machine. The bar: the
whole run's time is within a factor of 1.5 of the plan. The config allows exactly as many epochs as training will take
(no early stopping), since a plan only knows the maximum. On two cores, with SmolLM2-135M and Games, expect an hour.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from benchmarks.preparation import log_arguments
from pipeline.cli.text_table import format_table
from pipeline.driver.run_directory import RunOptions, open_run, run_stages
from pipeline.engine.config import Config
from pipeline.engine.manifest import read_manifest
from pipeline.studies.forecast.predict import plan_run

_BAR = 1.5


def config_of(options: argparse.Namespace) -> Config:
    """Return a config in which every stage takes a while, but none takes a day on a laptop."""
    return Config.model_validate(
        {
            "data": {"interactions": options.interactions, "items": options.items, "split": options.split},
            "surrogate": {"loss": "sampled", "epochs": 4, "patience": 4},
            "effort": {"candidates": options.candidates},
            "select": {"size": 256, "hard_prune": 0.0},
            "llm": {"model": options.model, "max_items": 5, "max_tokens": 192},
            "finetune": {"epochs": 1, "patience": 0, "global_batch": 32, "valid_users": 32},
            "evaluate": {"users": 64, "beams": 2, "max_new_tokens": 16},
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row per stage and the verdict. Return 0 if the bar is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    log_arguments(parser)
    parser.add_argument("--model", required=True, help="the LLM: a hub name, a folder or a .gguf file")
    parser.add_argument("--candidates", type=float, default=0.02, help="share of samples that get an effort score")
    parser.add_argument("--users", type=int, default=4000, help="number of users in the share that the plan measures")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = config_of(options)
    plan = plan_run(config, open_run(f"{options.runs}/plan"), options.users)
    run = open_run(f"{options.runs}/plan-truth")
    graph = run_stages(config, run, RunOptions(fresh=True))
    rows: list[dict[str, Any]] = []
    for row in plan["stages"]:
        manifest = read_manifest(graph.folder(graph.stage(row["stage"])))
        assert manifest is not None
        rows.append({"stage": row["stage"], "planned s": row["seconds"], "took s": round(manifest.seconds, 1)})
    planned, took = plan["total"]["seconds"], sum(row["took s"] for row in rows)
    rows.append({"stage": "all", "planned s": round(planned, 1), "took s": round(took, 1)})
    table = [{**row, "factor": round(max(row["planned s"], 0.1) / max(row["took s"], 0.1), 2)} for row in rows]
    factor = max(planned / took, took / planned)
    print(format_table(table))
    longest = max(rows[:-1], key=lambda row: row["took s"])["stage"]
    print(f"dominating stage: planned {plan['total']['dominating']}, actual {longest}")
    print(f"the plan took {plan['share']['seconds']:.0f} s of stages; off by a factor of {factor:.2f} (bar {_BAR})")
    return 0 if factor <= _BAR and longest == plan["total"]["dominating"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
