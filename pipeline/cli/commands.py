"""What each command of the command line does.

What only one command needs is imported there: the libraries below take seconds to load.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.progress import format_seconds
from cluster.storage import Storage, is_remote
from pipeline.cli.console import write_now
from pipeline.cli.text_table import format_table
from pipeline.driver.run_directory import RunOptions, default_run_dir, open_run, run_stages
from pipeline.driver.run_tables import kept_rows, metrics_rows, stage_rows
from pipeline.engine.config import Config
from pipeline.engine.config_file import dump_config, json_schema, load_config, load_run_config, parse_text
from pipeline.studies.audit.audit_stages import AUDIT, AUDIT_STAGES

log = logging.getLogger("dealrec.cli")

#: Longer than the heads of our manifests give a job to end.
_STOP_SECONDS = 130.0
#: Random coresets a training seed, unless asked for otherwise.
_DRAWS = {"proxy": 3, "llm": 1}


def run(options: argparse.Namespace) -> int:
    config, run_dir = _load(options)
    graph = run_stages(
        config, open_run(run_dir), RunOptions(first=options.first, last=options.last, fresh=options.fresh)
    )
    rows = {"stages": stage_rows(graph), "metrics": metrics_rows(graph)}
    _show(options, rows, ("metrics", "stages"))
    return 0


def run_stage(options: argparse.Namespace) -> int:
    config, run_dir = _load(options)
    graph = run_stages(config, open_run(run_dir), RunOptions(only=options.stage))
    tables: dict[str, Any] = {"stages": stage_rows(graph)}
    if options.stage == "ingest":
        statistics = graph.folder(graph.stage("ingest")).read_json("statistics.json")
        tables |= {"interactions": kept_rows(statistics), "statistics": statistics}
    _show(options, tables, [name for name in ("interactions", "stages") if name in tables])
    return 0


def compare(options: argparse.Namespace) -> int:
    from pipeline.studies.compare.arms import Request
    from pipeline.studies.compare.comparison_rows import difference_rows, slice_rows, summary_rows
    from pipeline.studies.compare.run_comparison import compare as compare_selectors
    from pipeline.studies.compare.verdict import conclusions

    config, run_dir = _load(options)
    sizes = options.sizes or [config.select.size]
    draws = _DRAWS[options.target] if options.draws is None else options.draws
    request = Request(_listed(options.selectors), options.seeds, sizes, draws, options.first_seed, options.control)
    run = open_run(run_dir)
    proxies = _listed(options.proxies)
    result = compare_selectors(config, run, request, options.target, proxies, options.arms_at_once)
    if options.json:
        _show(options, {"comparison": result}, ())
        return 0
    tables = {"arms": summary_rows(result), "differences": difference_rows(result)}
    tables |= {kind: slice_rows(result, kind) for kind in ("difference", "from_zero_shot")}
    _show(options, tables, tuple(tables))
    for warning in result["warnings"]:
        log.warning("%s", warning)
    for sentence in conclusions(result):
        log.info("%s", sentence)
    log.info("untuned: arms whose lowest validation loss is that before any tuning")
    log.info("* looks at the validation period; %d arms tried so far", result["tried"])
    log.info("Plots: %s", run.child("arms").uri + f"/comparison-{options.target}.html")
    return 0


def export(options: argparse.Namespace) -> int:
    from pipeline.export.coreset_export import FORMATS, export_coreset

    config, run_dir = _load_run(options)
    formats = list(FORMATS) if options.format is None else _listed(options.format)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(
            f"--format {options.format}: no format {', '.join(unknown)}.", f"There are {', '.join(FORMATS)}."
        )
    run = Storage.at(run_dir)
    out = open_run(options.out, "--out") if options.out else run.child("export")
    _show(options, {"files": export_coreset(config, run, out, formats)}, ("files",))
    log.info("Written to %s", out.uri)
    return 0


def audit(options: argparse.Namespace) -> int:
    from pipeline.studies.audit.audit_table import recommended_setting, table_rows

    config, run_dir = _load(options)
    graph = run_stages(config, open_run(run_dir), RunOptions(first=options.first, fresh=options.fresh), AUDIT_STAGES)
    result = graph.folder(AUDIT).read_json("audit.json")
    if options.json:
        _show(options, {"audit": result}, ())
        return 0
    _show(options, {"audit": table_rows(result)}, ("audit",))
    draws = [row["ndcg_change"] for row in result["removals"] if row["kind"] == "random"]
    log.info("NDCG@10 %.4f with all samples; without random ones %s", result["whole"]["ndcg@10"], _signed(draws))
    log.info("Recommended (*), for your config: %s", recommended_setting(result))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Exit code 2 when something is lacking, so that scripts can ask."""
    from pipeline.driver.doctor import diagnose

    config = (
        load_config(options.config, options.overrides)
        if options.config
        else parse_text('data: {interactions: "-"}', "--set", options.overrides)
    )
    run_dir = options.run_dir or default_run_dir(options.config or "doctor.yaml")
    found, plans, cluster = diagnose(config, Storage.at(run_dir), bool(options.config))
    rows = [{"what": f.what, "found": f.found, "lack": f.lack or "-", "remedy": f.remedy or "-"} for f in found]
    _show(options, {"findings": rows, "plan": plans}, ("findings", "plan"))
    log.info("Cluster: %s", cluster)
    return 2 if any(finding.lack for finding in found) else 0


def plan(options: argparse.Namespace) -> int:
    from pipeline.studies.forecast.predict import plan_run

    config, run_dir = _load(options)
    result = plan_run(config, open_run(run_dir), options.users)
    _show(options, result, ("stages",))
    if not options.json:
        sums = result["total"]
        log.info("The whole run: %s; %s takes most of it.", format_seconds(sums["seconds"]), sums["dominating"])
        if sums["cost"]:
            log.info("Cost: %.2f", sums["cost"])
    return 0


def schema(options: argparse.Namespace) -> int:
    write_now(json_schema())
    return 0


def submit(options: argparse.Namespace) -> int:
    from cluster.jobs import open_client, submission_id, submit_job

    config, run_dir = _load(options)
    if not is_remote(run_dir) and not Path(run_dir.removeprefix("file://")).is_absolute():
        raise UserError(
            f"--run-dir {run_dir} is relative; a job runs in a temporary folder of the cluster.",
            "Give an absolute path on shared storage, or an s3:// or gs:// URI, by --run-dir.",
        )
    if config.cluster.address == "local":
        raise UserError(
            "cluster.address is local: the job would start a Ray of its own, apart from the cluster.", "Leave it out."
        )
    text, run_dir = dump_config(config), Storage.at(run_dir).uri
    client = open_client(options.address)
    job, joined = submit_job(client, submission_id(text, run_dir), ["--run-dir", run_dir], text)
    log.info("%s %s at %s", "Joined the running job" if joined else "Submitted", job, options.address)
    log.info("Follow it: dealrec logs %s --address %s", job, options.address)
    log.info("Stop it:   dealrec stop %s --address %s", job, options.address)
    return _follow(client, job, options.address) if options.follow else 0


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


def _listed(text: str) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _signed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.4f}" for value in values)


def _load(options: argparse.Namespace) -> tuple[Config, str]:
    """The configuration and the run directory; inside a job the configuration comes with the environment."""
    if options.config == "-":
        text = os.environ.get("DEALREC_CONFIG")
        if text is None:
            raise UserError("CONFIG is - and the environment holds no DEALREC_CONFIG.", "Give a YAML file.")
        # Not by a file: jobs of one checkout have one folder.
        config = parse_text(text, "DEALREC_CONFIG", options.overrides)
        return config, options.run_dir or default_run_dir("submitted.yaml")
    return load_config(options.config, options.overrides), options.run_dir or default_run_dir(options.config)


def _load_run(options: argparse.Namespace) -> tuple[Config, str]:
    """As `_load`, where a run directory will do for the config: it keeps its own."""
    if not is_remote(options.config) and not Path(options.config).is_dir():
        return _load(options)
    return load_run_config(Storage.at(options.config), options.overrides), options.config


def _show(options: argparse.Namespace, tables: Mapping[str, Any], order: Sequence[str]) -> None:
    """The result on stdout: tables for a person, or JSON."""
    if options.json:
        write_now(json.dumps(tables, indent=1) + "\n")
        return
    for name in order:
        if tables[name]:
            write_now("\n" + format_table(tables[name]) + "\n")
