"""The command line: `dealrec`, or `python -m pipeline`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from cluster.errors import UserError, user_error_in
from cluster.home import ensure_home
from cluster.stopping import Stopped
from pipeline import __version__
from pipeline.api.calls import by_command
from pipeline.cli import commands
from pipeline.cli.completion import SHELLS, completion
from pipeline.cli.console import ReaderLeftError
from pipeline.cli.log_lines import configure_logging
from pipeline.recommend.known_models import FORMATS, MODELS
from pipeline.stages.stage_list import COMMAND_STAGE_NAMES
from pipeline.studies.audit.audit_stages import AUDIT_STAGE_NAMES
from scoring.exceptions import ScoringError

log = logging.getLogger("dealrec.cli")

EXIT_OK = 0
EXIT_OUR_FAULT = 1
EXIT_USER_FAULT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 our fault, 2 the user's fault, 3 worse than --against."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    configure_logging(options.verbose)

    def work() -> int:
        ensure_home()
        with by_command():
            return int(options.command(options) or EXIT_OK)

    return guarded(work, options.verbose)


def guarded(work: Callable[[], int], verbose: bool = False) -> int:
    """Return what `work` returns, or report what it raises in one message and return its exit code."""
    try:
        return work()
    except Stopped:
        log.error("Stopped. The same command continues where this one stopped.")
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        log.error("Interrupted. The same command continues where this one stopped.")
        return 128 + signal.SIGINT
    except (UserError, ScoringError) as error:
        # Ray wraps an error of a worker in one whose text is the whole traceback.
        return _user_fault(getattr(error, "cause", error), verbose)
    except ReaderLeftError:
        # The reader is gone, so there is nowhere to write what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is gets an exit code
        fault = user_error_in(error)
        if fault is not None:
            return _user_fault(fault, verbose)
        log.error("Internal error (a bug in dealrec, not in your config or data):\n%s", traceback.format_exc())
        return EXIT_OUR_FAULT


def _user_fault(error: Exception, verbose: bool) -> int:
    if verbose:
        log.debug("%s", traceback.format_exc())
    log.error("error: %s", error)
    return EXIT_USER_FAULT


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="dealrec",
        description="Prune a recommendation log to the few percent an LLM needs, and tune the LLM on it.",
    )
    parser.add_argument("--version", action="version", version=f"dealrec {__version__}")
    commands_ = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands_.add_parser("run", help="run all stages; complete ones are skipped")
    _add_run_arguments(run)
    _add_stage_arguments(run)
    run.set_defaults(command=commands.run)

    for name in COMMAND_STAGE_NAMES:
        stage = commands_.add_parser(name, help=f"run the stage {name} alone")
        _add_run_arguments(stage)
        stage.set_defaults(command=commands.run_stage, stage=name)

    compare = commands_.add_parser(
        "compare",
        help="compare selectors by tuning on their coresets; or compare two runs",
        description="Tune and evaluate on several coresets; with --against, compare two complete runs.",
        epilog=f"exit code with --against: {commands.EXIT_WORSE} if the run is worse beyond chance on NDCG@10, else 0",
    )
    _add_run_arguments(compare, kind="a YAML file, or a run directory")
    compare.add_argument(
        "--against",
        metavar="RUN",
        help="the directory of another complete run; nothing is tuned, and none of the options below applies",
    )
    compare.add_argument(
        "--selectors",
        action=_Told,
        type=commands.names,
        default=("dealrec", "random"),
        help="comma-separated; dealrec+normalise=rank+strata=20 gives a selector its own settings",
    )
    compare.add_argument(
        "--seeds", action=_Told, type=int, default=1, metavar="N", help="training seeds, each with its own selection"
    )
    compare.add_argument("--first-seed", action=_Told, type=int, default=0, metavar="N", help="the lowest of the seeds")
    compare.add_argument(
        "--control", action=_Told, default="random", metavar="NAME", help="the selector to compare the others with"
    )
    compare.add_argument(
        "--sizes", action=_Told, type=commands.sizes, metavar="A,B", help="shares or counts; select.size by default"
    )
    compare.add_argument(
        "--draws", action=_Told, type=int, metavar="N", help="random coresets a seed; 3 for proxies, 1 for the LLM"
    )
    compare.add_argument(
        "--target", action=_Told, choices=("llm", "proxy"), default="llm", help="what is tuned on the coresets"
    )
    compare.add_argument(
        "--proxies",
        action=_Told,
        type=commands.names,
        default=("semantic", "lexical"),
        help="comma-separated, for --target proxy",
    )
    compare.add_argument(
        "--arms-at-once", action=_Told, type=int, metavar="N", help="LLM arms in parallel; as many as fit by default"
    )
    compare.set_defaults(command=commands.compare)

    audit = commands_.add_parser("audit", help="measure how faithful the influence scores are, by retraining")
    _add_run_arguments(audit)
    audit.add_argument("--from", dest="from_", choices=AUDIT_STAGE_NAMES, help="recompute this and what follows")
    audit.add_argument("--fresh", action="store_true", help="recompute everything, the run's surrogate included")
    audit.set_defaults(command=commands.audit)

    export = commands_.add_parser("export", help="write the coreset as text, for fine-tuning with other tools")
    _add_run_arguments(export, "RUN", "a run directory, or the config of a run")
    export.add_argument("--out", metavar="DIR", help="folder or URI; export in the run directory by default")
    export.add_argument("--format", dest="formats", type=commands.names, help="comma-separated; all by default")
    export.set_defaults(command=commands.export)

    recommend = commands_.add_parser("recommend", help="write lists of items for users, by a finished run")
    _add_run_arguments(recommend, "RUN", "a run directory, or the config of a run")
    recommend.add_argument("--users", metavar="FILE|all", help="ids of the log's users, one a line or a table; or all")
    recommend.add_argument("--histories", metavar="FILE", help="what known or new users have chosen, as a log")
    recommend.add_argument("--candidates", metavar="FILE", help="ids of the items that may be recommended")
    recommend.add_argument("--k", type=int, default=20, metavar="N", help="the length of a list; 20 by default")
    recommend.add_argument("--model", choices=MODELS, default="llm", help="what recommends; the tuned LLM by default")
    recommend.add_argument("--keep-seen", action="store_true", help="recommend items that the user has chosen as well")
    recommend.add_argument("--format", choices=FORMATS, default="parquet", help="the format of the file")
    recommend.add_argument("--out", metavar="DIR", help="folder or URI; one in the run directory by default")
    recommend.set_defaults(command=commands.recommend)

    doctor = commands_.add_parser("doctor", help="tell what this machine or cluster lacks, before anything runs")
    doctor.add_argument("config", nargs="?", metavar="CONFIG")
    doctor.add_argument("--run-dir", metavar="DIR", help="folder or URI that all nodes must share")
    doctor.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    _add_output_arguments(doctor)
    doctor.set_defaults(command=commands.doctor)

    plan = commands_.add_parser("plan", help="estimate the time, memory and cost of each stage on this cluster")
    _add_run_arguments(plan)
    plan.add_argument("--users", type=int, default=4000, metavar="N", help="users in the share that is measured")
    plan.set_defaults(command=commands.plan)

    schema = commands_.add_parser("schema", help="print the JSON Schema of the config, for editors")
    _add_output_arguments(schema)
    schema.set_defaults(command=commands.schema)

    script = commands_.add_parser("completion", help="print a script that completes commands and options in your shell")
    script.add_argument("shell", choices=SHELLS)
    script.add_argument("--verbose", action="store_true", help="times, areas and tracebacks in the log")
    script.set_defaults(command=completion, parser=parser)

    submit = commands_.add_parser("submit", help="run on a cluster as a Ray job")
    _add_run_arguments(submit)
    _add_stage_arguments(submit)
    submit.add_argument("--address", required=True, metavar="URL", help="http://HEAD:8265")
    submit.add_argument("--follow", action=argparse.BooleanOptionalAction, default=True, help="follow the job's log")
    submit.set_defaults(command=commands.submit)
    for name, help_ in (
        ("jobs", "list the jobs of a cluster"),
        ("logs", "follow a job's log"),
        ("stop", "stop a job"),
    ):
        job = commands_.add_parser(name, help=help_)
        if name != "jobs":
            job.add_argument("job", metavar="JOB")
        job.add_argument("--address", required=True, metavar="URL")
        _add_output_arguments(job)
        job.set_defaults(command=getattr(commands, name))
    return parser


class _Told(argparse.Action):
    """Stores an option's value, and records that the option was given, whatever its value is."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.told = (*getattr(namespace, "told", ()), self.option_strings[0])


def _add_run_arguments(parser: argparse.ArgumentParser, name: str = "CONFIG", kind: str = "a YAML file") -> None:
    parser.add_argument("config", metavar=name, help=kind)
    parser.add_argument("--run-dir", metavar="DIR", help="folder or URI; runs/NAME of the config by default")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    _add_output_arguments(parser)


def _add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="from_", choices=COMMAND_STAGE_NAMES, help="recompute this stage and what follows"
    )
    parser.add_argument("--until", choices=COMMAND_STAGE_NAMES, help="stop after this stage")
    parser.add_argument("--fresh", action="store_true", help="recompute everything")


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    parser.add_argument("--verbose", action="store_true", help="times, areas and tracebacks in the log")


def entry() -> None:
    """Run the console command, and exit with its code."""
    sys.exit(main())
