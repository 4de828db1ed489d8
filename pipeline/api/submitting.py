"""Start a run on a cluster as a Ray job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.storage import Storage, is_remote
from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, named_place, read_source
from pipeline.api.given_tables import TableShelf
from pipeline.driver.run_directory import RunOptions, chosen_stages, open_run
from pipeline.engine.config import Config
from pipeline.engine.config_file import dump_config
from pipeline.engine.graph import Graph
from pipeline.stages.stage_list import stages_of


@dataclass(frozen=True)
class SubmittedJob:
    """A Ray job: its id, the address of the dashboard, and whether it was running already."""

    job: str
    address: str
    joined: bool


def submit(
    source: Source,
    *,
    address: str,
    run_dir: str | os.PathLike[str] | None = None,
    from_: str | None = None,
    until: str | None = None,
    fresh: bool = False,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> SubmittedJob:
    """Start `dealrec run` on a cluster, or join the job that is at work on the same run.

    Parameters
    ----------
    source, from_, until, fresh, overrides, progress, sections : as for `dealrec.run`.
    address : of the dashboard, http://HEAD:8265.
    run_dir : an absolute path on storage that all nodes share, or a URI.

    Raises `UserError` for a relative run directory, a stage that does not exist, a configuration that would start a Ray
    of its own, and a cluster that does not answer or refuses.

    Examples
    --------
    >>> made = dealrec.submit("shop.yaml", address="http://head:8265", run_dir="s3://bucket/shop")  # doctest: +SKIP
    >>> made.job  # doctest: +SKIP
    'dealrec-5f0c1a2b-77e9d3c1'
    """
    from cluster.jobs import open_client, submission_id, submit_job

    with api_call(progress):
        read = read_source(source, run_dir, overrides, sections)
        place = named_place(read)
        if not is_remote(place) and not Path(place.removeprefix("file://")).is_absolute():
            raise UserError(
                f"--run-dir {place} is relative; a job runs in a temporary folder of the cluster.",
                "Give an absolute path on shared storage, or an s3:// or gs:// URI, by --run-dir.",
            )
        if read.config.cluster.address == "local":
            raise UserError(
                "cluster.address is local: the job would start a Ray of its own, apart from the cluster.",
                "Leave it out.",
            )
        options = _stage_options(read.config, Storage.at(place), RunOptions(first=from_, last=until, fresh=fresh))
        # The directory may be one of the cluster's alone; tables in memory must be written to it from here.
        run = open_run(place) if read.tables else Storage.at(place)
        text = dump_config(read.with_tables_on(TableShelf(run)) if read.tables else read.config)
        client = open_client(address)
        name = submission_id(text, run.uri, options)
        job, joined = submit_job(client, name, ["--run-dir", run.uri, *options], text)
        return SubmittedJob(job, address, joined)


def _stage_options(config: Config, run: Storage, options: RunOptions) -> list[str]:
    """Return the options of `dealrec run` that say which stages to run. Raises `UserError` for wrong ones."""
    if options == RunOptions():
        return []
    chosen_stages(Graph(stages_of(config), config, run), options)
    named = {"--from": options.first, "--until": options.last}
    given = [word for option, stage in named.items() if stage is not None for word in (option, stage)]
    return [*given, "--fresh"] if options.fresh else given
