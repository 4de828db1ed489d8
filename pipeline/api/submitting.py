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
from pipeline.driver.run_directory import open_run
from pipeline.engine.config_file import dump_config


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
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> SubmittedJob:
    """Start `dealrec run` on a cluster, or join the job that is at work on the same run.

    Parameters
    ----------
    source, overrides, progress, sections : as of `dealrec.run`.
    address : of the dashboard, http://HEAD:8265.
    run_dir : an absolute path on storage that all nodes share, or a URI.

    Raises `UserError` for a relative run directory, a configuration that would start a Ray of its own, and a cluster
    that does not answer or refuses.
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
        # The directory may be one of the cluster's alone; tables in memory must be written to it from here.
        run = open_run(place) if read.tables else Storage.at(place)
        text = dump_config(read.with_tables_on(TableShelf(run)) if read.tables else read.config)
        client = open_client(address)
        job, joined = submit_job(client, submission_id(text, run.uri), ["--run-dir", run.uri], text)
        return SubmittedJob(job, address, joined)
