"""The commands of the command line: each calls a function of the Python API and prints its result.

What only one command needs is imported there: the libraries below take seconds to load.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cluster.errors import UserError
from cluster.progress import format_seconds
from cluster.storage import Storage
from pipeline.api.config_sources import Source
from pipeline.api.run_result import Run
from pipeline.cli.console import write_now
from pipeline.cli.text_table import format_table
from pipeline.driver.run_directory import default_run_dir
from pipeline.driver.run_tables import kept_rows, metrics_rows, stage_rows
from pipeline.engine.config_file import parse_text
from pipeline.engine.graph import Graph
from pipeline.engine.wording import counted
from pipeline.ingest.statistics_record import read_statistics
from pipeline.stages.stage_list import stages_of

log = logging.getLogger("dealrec.cli")

#: The exit code of `compare --against` for a run that is worse than the other one.
EXIT_WORSE = 3
#: Rows of a recommendation that a terminal shows.
_FIRST_ROWS = 10


def run(options: argparse.Namespace) -> int:
    from pipeline.api.running import run as run_all

    graph = _graph(run_all(*_source(options), **_given(options, "from_", "until", "fresh")))
    stages, metrics = stage_rows(graph), metrics_rows(graph)
    _show(options, {"stages": stages, "metrics": metrics}, metrics, stages)
    return 0


def run_stage(options: argparse.Namespace) -> int:
    from pipeline.api.running import run_stage as run_one

    graph = _graph(run_one(options.stage, *_source(options), **_given(options)))
    stages = stage_rows(graph)
    if options.stage != "ingest":
        _show(options, {"stages": stages}, stages)
        return 0
    statistics = read_statistics(graph.folder(graph.stage("ingest")))
    kept = kept_rows(statistics)
    _show(options, {"stages": stages, "interactions": kept, "statistics": statistics}, kept, stages)
    return 0


def compare(options: argparse.Namespace) -> int:
    from pipeline.api.comparing import compare as compare_selectors

    if options.against is not None:
        return _compare_runs(options)
    from pipeline.studies.compare.comparison_rows import difference_rows, slice_rows, summary_rows

    asked = ("selectors", "seeds", "first_seed", "control", "sizes", "draws", "target", "proxies", "arms_at_once")
    made = compare_selectors(*_source(options), **_given(options, *asked))
    result = made.record
    slices = (slice_rows(result, "difference"), slice_rows(result, "from_zero_shot"))
    _show(options, {"comparison": result}, summary_rows(result), difference_rows(result), *slices)
    if options.json:
        return 0
    for warning in made.warnings:
        log.warning("%s", warning)
    for sentence in made.conclusions:
        log.info("%s", sentence)
    log.info("untuned: arms whose lowest validation loss is that before any tuning")
    log.info("* looks at the validation period; %d arms tried so far", result["tried"])
    log.info("Plots: %s", made.page)
    return 0


def _compare_runs(options: argparse.Namespace) -> int:
    """Exit code 3 when the run is worse than the other beyond chance, so that a pipeline can stop there."""
    from pipeline.api.comparing import compare as compare_with
    from pipeline.api.comparing import refuse_tuning

    refuse_tuning([*getattr(options, "told", ()), *(["--set"] if options.overrides else [])])
    made: Any = compare_with(*_source(options), **_given(options, "against"))
    rows = [
        {
            "metric": row.metric,
            "run": f"{row.ours:.4f}",
            "against": f"{row.theirs:.4f}",
            "difference": f"{row.difference.mean:+.4f} [{row.difference.low:+.4f}, {row.difference.high:+.4f}]",
        }
        for row in made.differences.values()
    ]
    _show(options, {"gate": asdict(made)}, rows)
    for warning in made.warnings:
        log.warning("%s", warning)
    side = "worse than" if made.worse else "better than" if made.better else "not distinguishable from"
    log.info("By %s, %s is %s %s over %s test users.", made.metric, made.run, side, made.against, f"{made.users:,}")
    return EXIT_WORSE if made.worse else 0


def export(options: argparse.Namespace) -> int:
    from pipeline.api.exporting import export as export_coreset

    made = export_coreset(*_source(options), **_given(options, "out", "formats"))
    files = [asdict(file) for file in made.files]
    _show(options, {"files": files}, files)
    log.info("Written to %s", made.folder)
    return 0


def recommend(options: argparse.Namespace) -> int:
    from pipeline.api.recommending import recommend as recommend_items

    asked = ("users", "histories", "candidates", "k", "model", "keep_seen", "format", "out")
    made = recommend_items(*_source(options), **_given(options, *asked))
    _show(options, {"recommendations": asdict(made)}, made.table().slice(0, _FIRST_ROWS).to_pylist())
    log.info("%s for %s: %s/%s", counted(made.rows, "item"), counted(made.users, "user"), made.folder, made.file)
    return 0


def audit(options: argparse.Namespace) -> int:
    from pipeline.api.auditing import audit as audit_influence
    from pipeline.studies.audit.audit_table import table_rows

    made = audit_influence(*_source(options), **_given(options, "from_", "fresh"))
    result = made.record
    _show(options, {"audit": result}, table_rows(result))
    if options.json:
        return 0
    draws = [row["ndcg_change"] for row in result["removals"] if row["kind"] == "random"]
    log.info("NDCG@10 %.4f with all samples; without random ones %s", result["whole"]["ndcg@10"], _signed(draws))
    log.info("Recommended (*), for your config: %s", made.recommended)
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Check a machine or cluster; exit with code 2 if something is lacking, so that scripts can ask."""
    from pipeline.api.diagnosing import doctor as diagnose
    from pipeline.preflight.resource_plan import plan_rows

    made = diagnose(*_source(options), **_given(options))
    rows = [{"what": f.what, "found": f.found, "lack": f.lack or "-", "remedy": f.remedy or "-"} for f in made.findings]
    workers = plan_rows(made.workers)
    _show(options, {"findings": rows, "plan": workers}, rows, workers)
    log.info("Cluster: %s", made.cluster)
    return 0 if made.ok else 2


def plan(options: argparse.Namespace) -> int:
    from pipeline.api.planning import plan as plan_run

    made = plan_run(*_source(options), **_given(options, "users"))
    _show(options, made.record, made.record["stages"])
    if not options.json:
        log.info("The whole run: %s; %s takes most of it.", format_seconds(made.seconds), made.dominating)
        if made.cost:
            log.info("Cost: %.2f", made.cost)
    return 0


def schema(options: argparse.Namespace) -> int:
    from pipeline.api.describing import schema as describe

    write_now(json.dumps(describe(), indent=1) + "\n")
    return 0


def submit(options: argparse.Namespace) -> int:
    from pipeline.api.submitting import submit as submit_run

    made = submit_run(*_source(options), **_given(options, "address", "from_", "until", "fresh"))
    log.info("%s %s at %s", "Joined the running job" if made.joined else "Submitted", made.job, made.address)
    log.info("Follow it: dealrec logs %s --address %s", made.job, made.address)
    log.info("Stop it:   dealrec stop %s --address %s", made.job, made.address)
    return _follow(made.job, made.address) if options.follow else 0


def jobs(options: argparse.Namespace) -> int:
    from pipeline.api.job_calls import jobs as list_jobs

    found = list_jobs(address=options.address)
    rows = [
        {"job": job.job, "status": job.status, "started": _local(job.started), "ended": _local(job.ended)}
        for job in found
    ]
    _show(options, {"jobs": rows}, rows)
    return 0


def logs(options: argparse.Namespace) -> int:
    return _follow(options.job, options.address)


def stop(options: argparse.Namespace) -> int:
    from pipeline.api.job_calls import stop as stop_job

    if not stop_job(options.job, address=options.address).over:
        log.info("%s has not ended yet. Once dealrec jobs says that it has, a new submit continues.", options.job)
        return 1
    log.info("It has ended; a new submit continues where it stopped.")
    return 0


def _follow(job: str, address: str) -> int:
    from pipeline.api.job_calls import logs as follow_job

    try:
        made = follow_job(job, address=address, write=write_now)
    except KeyboardInterrupt:
        log.info("\nDetached; %s goes on.", job)
        log.info("Follow it: dealrec logs %s --address %s", job, address)
        log.info("Stop it:   dealrec stop %s --address %s", job, address)
        return 0
    log.info("%s: %s", job, made.status)
    return made.exit_code


def sizes(text: str) -> list[float]:
    """Read a comma-separated list of shares and counts, for the command line's parser."""
    return list(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))


def names(text: str) -> tuple[str, ...]:
    """Read the names of a comma-separated list, each once, for the command line's parser."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _local(time: datetime | None) -> str | None:
    """Return a time in this machine's zone, to the second; None for none."""
    return None if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _signed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.4f}" for value in values)


def _source(options: argparse.Namespace) -> tuple[Source] | tuple[()]:
    """Return what CONFIG names: a path, the environment's text inside a job, or nothing if it was left out."""
    if options.config is None:
        return ()
    if options.config != "-":
        return (options.config,)
    text = os.environ.get("DEALREC_CONFIG")
    if text is None:
        raise UserError("CONFIG is - and the environment holds no DEALREC_CONFIG.", "Give a YAML file.")
    # Not by a file: jobs of one checkout have one folder.
    return (parse_text(text, "DEALREC_CONFIG"),)


def _given(options: argparse.Namespace, *names_: str) -> dict[str, Any]:
    """Return the arguments that all functions take, and those named, as the options say."""
    run_dir = options.run_dir or (default_run_dir("submitted.yaml") if options.config == "-" else None)
    return {
        "run_dir": run_dir,
        "overrides": options.overrides,
        "progress": True,
        **{name: getattr(options, name) for name in names_},
    }


def _graph(run_: Run) -> Graph:
    """Return the stages of a run, for its tables."""
    return Graph(stages_of(run_.config), run_.config, Storage.at(run_.run_dir))


def _show(options: argparse.Namespace, record: Mapping[str, object], *tables: Sequence[Mapping[str, object]]) -> None:
    """Write a result to standard output: its record as JSON if that was asked for, else its tables for a person."""
    if options.json:
        write_now(json.dumps(record, indent=1) + "\n")
        return
    for rows in tables:
        if rows:
            write_now("\n" + format_table(rows) + "\n")
