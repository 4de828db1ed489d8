"""`make demo`: a run and a random arm on MovieLens with SmolLM2, and a table with the baselines."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cluster.project_root import CHECKOUT
from pipeline.cli.console import write_now
from pipeline.cli.log_lines import configure_logging
from pipeline.cli.main import EXIT_OK, guarded
from pipeline.cli.text_table import format_table
from pipeline.demo.prepare import prepare_llm, prepare_log
from pipeline.driver.run_directory import RunOptions, open_run, run_stages, session
from pipeline.driver.run_tables import headline_row, metrics_rows, stage_rows
from pipeline.engine.config_file import load_config
from pipeline.studies.compare.arms import Arm, Request, arm_graph
from pipeline.studies.compare.run_comparison import compare

_PLACE = CHECKOUT or Path.cwd()
CACHE = _PLACE / ".cache" / "demo"
RUN_DIR = _PLACE / "runs" / "demo"
#: The run itself is tuned on what `dealrec` chose.
SELECTORS = ("random",)


def demo(cache: Path, run_dir: Path) -> list[dict[str, Any]]:
    """Run everything that is not complete yet; return the rows of the final table."""
    interactions, model = prepare_log(cache), prepare_llm(cache)
    config = load_config(
        str(Path(__file__).with_name("demo.yaml")),
        [f"data.interactions={interactions}", f"llm.model={model}"],
    )
    run = open_run(str(run_dir))
    with nullcontext() if run.exists("arms") else session(config):
        graph = run_stages(config, run, RunOptions())
        compared = run.exists("arms/comparison-llm.json")
        compare(config, run, Request(SELECTORS, seeds=1, sizes=[config.select.size]), "llm")
        if not compared:
            # Render the report again, since its first sentence can now mention the random coreset.
            run_stages(config, run, RunOptions(first="report"))
    arm = arm_graph(config, run, Arm("random", config.select.size, 0))
    evaluation = arm.folder(arm.stage("evaluate")).read_json("metrics.json")
    rows = metrics_rows(graph)
    rows.insert(2, headline_row("LLM tuned on a random coreset", evaluation["models"][evaluation["focus"]]))
    write_now(f"\n{format_table(stage_rows(graph))}\n\n{format_table(rows)}\n\nReport: {run_dir / 'report.html'}\n")
    return rows


def main() -> int:
    configure_logging()
    return guarded(_demo)


def _demo() -> int:
    demo(CACHE, RUN_DIR)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
