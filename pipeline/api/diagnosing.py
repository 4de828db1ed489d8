"""Tell what a machine or cluster lacks for a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from cluster.machine_checks import Finding
from cluster.storage import Storage
from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, read_source
from pipeline.api.given_tables import TableShelf
from pipeline.preflight.resource_plan import StagePlan


@dataclass(frozen=True)
class Diagnosis:
    """What there is, and what is lacking.

    Attributes
    ----------
    findings : what was checked; those with a `lack` prevent the run, and have a `remedy`.
    cluster : the nodes, in words.
    workers : who works on each stage that needs workers.
    """

    findings: tuple[Finding, ...]
    cluster: str
    workers: tuple[StagePlan, ...] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Tell whether nothing is lacking."""
        return not self.lacks

    @property
    def lacks(self) -> tuple[Finding, ...]:
        """The findings that prevent the run."""
        return tuple(finding for finding in self.findings if finding.lack)

    def table(self) -> pa.Table:
        """Return the findings as a table: what, found, lack, remedy."""
        return pa.Table.from_pylist([asdict(finding) for finding in self.findings])


def doctor(
    source: Source | None = None,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Diagnosis:
    """Check what a run needs before any of it runs. Nothing is written, and no Ray is started.

    Parameters
    ----------
    source, overrides, progress, sections : as for `dealrec.run`; None checks the machine alone.
    run_dir : the folder or URI that the run will write to; None is that of the source, or `runs/doctor`.

    Raises `UserError` for a configuration that cannot be read; what is lacking is a finding.

    Examples
    --------
    >>> found = dealrec.doctor()
    >>> found.findings[0].what
    'memory'
    """
    from pipeline.driver.doctor import diagnose

    with api_call(progress), tempfile.TemporaryDirectory(prefix="dealrec-") as folder:
        read = read_source({"interactions": "-"} if source is None else source, run_dir, overrides, sections)
        config = read.with_tables_on(TableShelf(Storage.at(folder)))
        place = Storage.at(read.run_dir or os.path.join("runs", "doctor"))
        findings, workers, cluster = diagnose(config, place, source is not None)
    return Diagnosis(tuple(findings), cluster, tuple(workers))
