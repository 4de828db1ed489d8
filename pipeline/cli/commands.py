"""The commands of the command line: each calls the function of the Python API and prints what came out.

What only one command needs is imported there: the libraries below take seconds to load.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
from pipeline.engine.config_file import json_schema, parse_text
from pipeline.engine.graph import Graph
from pipeline.stages.stage_list import stages_of

log = logging.getLogger("dealrec.cli")

#: The exit code of `compare --against` for a run that is worse than the other one.
EXIT_WORSE = 3
#: Longer than the heads of our manifests give a job to end.
_STOP_SECONDS = 130.0


def run(options: argparse.Namespace) -> int:
    from pipeline.api.running import run as run_all

    graph = _graph(run_all(*_source(options), **_given(options, "from_", "until", "fresh")))
    _show(options, {"stages": stage_rows(graph), "metrics": metrics_rows(graph)}, ("metrics", "stages"))
    return 0


def run_stage(options: argparse.Namespace) -> int:
    from pipeline.api.running import run_stage as run_one

    graph = _graph(run_one(options.stage, *_source(options), **_given(options)))
    tables: dict[str, Any] = {"stages": stage_rows(graph)}
    if options.stage == "ingest":
        statistics = graph.folder(graph.stage("ingest")).read_json("statistics.json")
        tables |= {"interactions": kept_rows(statistics), "statistics": statistics}
    _show(options, tables, [name for name in ("interactions", "stages") if name in tables])
    return 0


def compare(options: argparse.Namespace) -> int:
    from pipeline.api.comparing import compare as compare_selectors

    if options.against is not None:
        return _compare_runs(options)
    from pipeline.studies.compare.comparison_rows import difference_rows, slice_rows, summary_rows

    asked = ("selectors", "seeds", "first_seed", "control", "sizes", "draws", "target", "proxies", "arms_at_once")
    made = compare_selectors(*_source(options), **_given(options, *asked))
    result: Any = made.record
    if options.json:
        _show(options, {"comparison": result}, ())
        return 0
    tables = {"arms": summary_rows(result), "differences": difference_rows(result)}
    tables |= {kind: slice_rows(result, kind) for kind in ("difference", "from_zero_shot")}
    _show(options, tables, tuple(tables))
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
    if options.json:
        _show(options, {"gate": asdict(made)}, ())
    else:
        rows = [
            {
                "metric": row.metric,
                "run": f"{row.ours:.4f}",
                "against": f"{row.theirs:.4f}",
                "difference": f"{row.difference.mean:+.4f} [{row.difference.low:+.4f}, {row.difference.high:+.4f}]",
            }
            for row in made.differences.values()
        ]
        _show(options, {"differences": rows}, ("differences",))
    for warning in made.warnings:
        log.warning("%s", warning)
    side = "worse than" if made.worse else "better than" if made.better else "not to be told from"
    log.info("By %s, %s is %s %s over %s test users.", made.metric, made.run, side, made.against, f"{made.users:,}")
    return EXIT_WORSE if made.worse else 0


def export(options: argparse.Namespace) -> int:
    from pipeline.api.exporting import export as export_coreset

    made = export_coreset(*_source(options), **_given(options, "out", "formats"))
    _show(options, {"files": [asdict(file) for file in made.files]}, ("files",))
    log.info("Written to %s", made.folder)
    return 0


def audit(options: argparse.Namespace) -> int:
    from pipeline.api.auditing import audit as audit_influence
    from pipeline.studies.audit.audit_table import table_rows

    made = audit_influence(*_source(options), **_given(options, "from_", "fresh"))
    result = made.record
    if options.json:
        _show(options, {"audit": result}, ())
        return 0
    _show(options, {"audit": table_rows(result)}, ("audit",))
    draws = [row["ndcg_change"] for row in result["removals"] if row["kind"] == "random"]
    log.info("NDCG@10 %.4f with all samples; without random ones %s", result["whole"]["ndcg@10"], _signed(draws))
    log.info("Recommended (*), for your config: %s", made.recommended)
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Exit code 2 when something is lacking, so that scripts can ask."""
    from pipeline.api.diagnosing import doctor as diagnose

    made = diagnose(*_source(options), **_given(options))
    rows = [{"what": f.what, "found": f.found, "lack": f.lack or "-", "remedy": f.remedy or "-"} for f in made.findings]
    _show(options, {"findings": rows, "plan": list(made.workers)}, ("findings", "plan"))
    log.info("Cluster: %s", made.cluster)
    return 0 if made.ok else 2


def plan(options: argparse.Namespace) -> int:
    from pipeline.api.planning import plan as plan_run

    made = plan_run(*_source(options), **_given(options, "users"))
    _show(options, made.record, ("stages",))
    if not options.json:
        log.info("The whole run: %s; %s takes most of it.", format_seconds(made.seconds), made.dominating)
        if made.cost:
            log.info("Cost: %.2f", made.cost)
    return 0


def schema(options: argparse.Namespace) -> int:
    write_now(json_schema())
    return 0


def submit(options: argparse.Namespace) -> int:
    from cluster.jobs import open_client
    from pipeline.api.submitting import submit as submit_run

    made = submit_run(*_source(options), **_given(options, "address"))
    log.info("%s %s at %s", "Joined the running job" if made.joined else "Submitted", made.job, made.address)
    log.info("Follow it: dealrec logs %s --address %s", made.job, made.address)
    log.info("Stop it:   dealrec stop %s --address %s", made.job, made.address)
    return _follow(open_client(made.address), made.job, made.address) if options.follow else 0


def jobs(options: argparse.Namespace) -> int:
    from cluster.jobs import list_jobs, open_client

    rows = list_jobs(open_client(options.address))
    for row in rows:
        row["started"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["started"]))
    _show(options, {"jobs": rows}, ("jobs",))
    return 0


def logs(options: argparse.Namespace) -> int:
    from cluster.jobs import open_client, require_job

    client = open_client(options.address)
    require_job(client, options.job)
    return _follow(client, options.job, options.address)


def stop(options: argparse.Namespace) -> int:
    from cluster.jobs import open_client, require_job, stop_job

    client = open_client(options.address)
    require_job(client, options.job)
    log.info("Stopping %s, which finishes what it has in hand", options.job)
    if not stop_job(client, options.job, _STOP_SECONDS):
        log.info("%s has not ended yet. Once dealrec jobs says that it has, a new submit continues.", options.job)
        return 1
    log.info("It has ended; a new submit continues where it stopped.")
    return 0


def _follow(client: Any, job: str, address: str) -> int:
    from cluster.follow import follow_job
    from cluster.jobs import exit_code

    try:
        status = follow_job(client, job, write_now)
    except KeyboardInterrupt:
        log.info("\nDetached; %s goes on.", job)
        log.info("Follow it: dealrec logs %s --address %s", job, address)
        log.info("Stop it:   dealrec stop %s --address %s", job, address)
        return 0
    log.info("%s: %s", job, status)
    return exit_code(client, job, status)


def sizes(text: str) -> list[float]:
    """A comma-separated list of shares and counts, for the command line's parser."""
    return list(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))


def names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, each once, for the command line's parser."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


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
    """The arguments that all functions take, and those named, as the options say."""
    run_dir = options.run_dir or (default_run_dir("submitted.yaml") if options.config == "-" else None)
    return {
        "run_dir": run_dir,
        "overrides": options.overrides,
        "progress": True,
        **{name: getattr(options, name) for name in names_},
    }


def _graph(run_: Run) -> Graph:
    """The stages of a run, for its tables."""
    return Graph(stages_of(run_.config), run_.config, Storage.at(run_.run_dir))


def _show(options: argparse.Namespace, tables: Mapping[str, Any], order: Sequence[str]) -> None:
    """The result on stdout: tables for a person, or JSON."""
    if options.json:
        write_now(json.dumps(tables, indent=1) + "\n")
        return
    for name in order:
        if tables[name]:
            write_now("\n" + format_table(tables[name]) + "\n")
