"""A run: its directory, its stages, and what is done when it is started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.progress import format_seconds
from cluster.stopping import STOP
from cluster.storage import Storage, is_remote
from pipeline.engine.config import Config
from pipeline.engine.config_file import dump_config
from pipeline.engine.graph import Graph, Stage
from pipeline.engine.manifest import read_manifest
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.stage_list import stages_of
from pipeline.tracking.known_trackers import require_trackers
from pipeline.tracking.run_tracking import tracked_run

log = logging.getLogger("dealrec.run")

#: A file that `open_run` writes and removes; a kill in between leaves it.
WRITE_TEST = "_writable"


@dataclass(frozen=True)
class RunOptions:
    """How a run is started.

    Attributes
    ----------
    first, last : stages to begin with, recomputing, and to end with.
    only : the one stage to run.
    fresh : forget everything that is there.
    """

    first: str | None = None
    last: str | None = None
    only: str | None = None
    fresh: bool = False


def default_run_dir(config_path: str) -> str:
    """Return `runs/NAME` for a config file NAME.yaml."""
    return str(Path("runs") / Path(config_path).stem)


def open_run(uri: str, option: str = "--run-dir") -> Storage:
    """Open the folder that an option names, made if need be. Raises `UserError` if it cannot be written."""
    run = Storage.at(uri)
    try:
        run.write_bytes(WRITE_TEST, b"")
        run.delete(WRITE_TEST)
    except (OSError, PermissionError) as error:
        raise UserError(
            f"{option} {run.uri} cannot be written: {error}.",
            f"Choose another {option}, or mend its permissions.",
        ) from error
    return run


def run_stages(config: Config, run: Storage, options: RunOptions, stages: tuple[Stage, ...] | None = None) -> Graph:
    """Bring a run up to date: skip what is complete, resume what is not, compute the rest.

    `stages` are those of a run by this configuration unless others are given.

    Raises `UserError` when the directory holds another configuration's results, naming the keys.
    """
    graph = Graph(stages or stages_of(config), config, run)
    chosen = chosen_stages(graph, options)
    discarded = _discarded(graph, options)
    kept = [stage for stage in chosen if stage not in discarded]
    graph.check(kept)
    incomplete = graph.incomplete(kept)
    names = [stage.name for stage in chosen if stage in incomplete or stage in discarded]
    if not names:
        run.write_text("config.yaml", dump_config(config))
        log.info("Everything asked for is complete in %s.", _shown(run.uri))
        _track_complete(graph, chosen)
        return graph
    from pipeline.driver.execute import execute
    from pipeline.preflight.before_run import check_before_run, check_cluster
    from pipeline.stages.trunk_home import trunk_removed

    check_before_run(config, names, run)
    start = time.monotonic()
    with session(config):
        check_cluster(config, names, run)
        # Nothing is thrown away for a run that cannot begin.
        graph.discard(discarded)
        run.write_text("config.yaml", dump_config(config))
        selections = [config.select] if {"select", *FEATURE_NAMES} & set(names) else []
        with tracked_run(config, run, restart=bool(discarded)) as watcher, trunk_removed(config, run):
            execute(graph, chosen, selections, work=names, watcher=watcher)
    log.info("Finished in %s: %s", format_seconds(time.monotonic() - start), _shown(run.uri))
    return graph


def _track_complete(graph: Graph, stages: Sequence[Stage]) -> None:
    """Record complete stages with trackers that the config has named only since."""
    require_trackers(graph.config.track)
    with tracked_run(graph.config, graph.run) as watcher:
        for stage in stages:
            manifest = read_manifest(graph.folder(stage))
            assert manifest is not None
            watcher.complete(stage.name, graph.folder(stage), manifest)


@contextmanager
def session(config: Config) -> Iterator[None]:
    """Connect Ray as the cluster section says, and withdraw at the end what was asked of an autoscaler."""
    from cluster.scale_up import release_requests
    from cluster.session import ray_session

    cluster = config.cluster
    with ray_session(cluster.address, cluster.cpus, None if cluster.gpus == "auto" else cluster.gpus):
        try:
            with STOP.handled():
                yield
        finally:
            release_requests()


def _discarded(graph: Graph, options: RunOptions) -> Sequence[Stage]:
    """Return the stages whose results are not to be kept."""
    if options.fresh:
        return graph.stages
    return graph.after(options.first) if options.first is not None else []


def chosen_stages(graph: Graph, options: RunOptions) -> list[Stage]:
    """Return the stages that the options ask for, and those that these need."""
    for asked in (options.only, options.first, options.last):
        _require_read(graph, asked)
    if options.only is not None:
        return [graph.stage(options.only)]
    names = [stage.name for stage in graph.stages]
    last = names.index(graph.stage(options.last).name) if options.last else len(names) - 1
    if options.first and names.index(graph.stage(options.first).name) > last:
        raise UserError(f"--from {options.first} comes after --until {options.last}.", "Exchange them.")
    again = graph.after(options.first) if options.first else []
    # A run that stops at a stage also includes earlier stages that this stage does not need.
    whole = [stage.name for stage in [*again, *graph.needed([names[-1]])]]
    return graph.needed({names[last], *(name for name in whole if names.index(name) <= last)})


def _require_read(graph: Graph, asked: str | None) -> None:
    """Raise `UserError` for a feature that the selection does not read, so that no run of this config has it."""
    if asked in FEATURE_NAMES and asked not in [stage.name for stage in graph.stages]:
        section = graph.config.select
        raise UserError(
            f"There is no stage {asked} in this run: select.method {section.method} with select.influence "
            f"{section.influence} does not read what it computes.",
            f"Name one of {', '.join(stage.name for stage in graph.stages)}, or choose a method that reads it.",
        )


def _shown(uri: str) -> str:
    """Return a path as a person would type it from here."""
    if is_remote(uri):
        return uri
    path = Path(uri)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else uri
