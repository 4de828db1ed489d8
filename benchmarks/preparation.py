"""Preparing a log for a benchmark: run it up to a stage once, then reuse the result."""

from __future__ import annotations

import argparse
import hashlib
import logging

from cluster.storage import Storage
from pipeline.driver.run_directory import RunOptions, open_run, run_stages
from pipeline.engine.config import Config


def log_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that locate the log."""
    parser.add_argument("--interactions", required=True, help="the log, in any format that ingest reads")
    parser.add_argument("--items", help="the catalogue")
    parser.add_argument("--split", default="global_time", choices=("global_time", "leave_one_out", "column"))
    parser.add_argument("--runs", default="runs/benchmarks", help="where prepared runs are kept")


def prepared(options: argparse.Namespace, last: str = "ingest", **sections: dict[str, object]) -> Storage:
    """Return the log's run directory, complete up to the stage `last`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = {"interactions": options.interactions, "items": options.items, "split": options.split}
    config = Config.model_validate({"data": data, **sections})
    name = hashlib.blake2b(config.model_dump_json().encode(), digest_size=6).hexdigest()
    run = open_run(f"{options.runs}/{name}")
    run_stages(config, run, RunOptions(last=last))
    return run
