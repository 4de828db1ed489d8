"""An audit of influence as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pyarrow as pa

from pipeline.studies.audit.audit_rows import AuditResult, AuditRow
from pipeline.studies.audit.audit_table import recommended_setting


@dataclass(frozen=True)
class AuditedScore:
    """One way to compute influence, held against surrogates that were trained without samples.

    Attributes
    ----------
    label, method, scope, damping : the way: its name, solver, parameters and damping.
    lds, low, high : the linear datamodeling score for the risk of all samples together, a rank correlation, with its
        95% interval; None where it could not be computed.
    planted_auc : how well it tells samples with planted, wrong targets from the others; None where not computed.
    seconds : of the solve.
    error : why it could not be computed; None if it could.
    """

    label: str
    method: str
    scope: str | None
    damping: float | None
    lds: float | None
    low: float | None
    high: float | None
    planted_auc: float | None
    seconds: float | None
    error: str | None

    @classmethod
    def of(cls, row: AuditRow) -> AuditedScore:
        """Read the score of a row of the record."""
        mean, auc = row["lds_mean"], row["auc"]
        return cls(
            label=row["label"],
            method=row["method"],
            scope=row["scope"],
            damping=row["damping"],
            lds=None if mean is None else mean["value"],
            low=None if mean is None else mean["low"],
            high=None if mean is None else mean["high"],
            planted_auc=None if auc is None else auc["value"],
            seconds=row["seconds"],
            error=row["error"],
        )


@dataclass(frozen=True)
class Audit:
    """The result of an audit. All of it is a view of one record, the content of `audit/audit.json`.

    Attributes
    ----------
    record : that record, the removals included.
    """

    record: AuditResult = field(repr=False)

    @property
    def scores(self) -> tuple[AuditedScore, ...]:
        """A row for each way to compute influence."""
        return tuple(AuditedScore.of(row) for row in self.record["scores"])

    @property
    def recommended(self) -> str:
        """The recommended way as a line of a configuration, or that there is none."""
        return recommended_setting(self.record)

    def table(self) -> pa.Table:
        """Return the scores as a table, a column for each attribute of `AuditedScore`."""
        return pa.Table.from_pylist([asdict(score) for score in self.scores])
