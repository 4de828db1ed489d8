"""A comparison of selectors as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pyarrow as pa

from pipeline.api.masked_repr import MaskedRepr
from pipeline.studies.compare.comparison_rows import HEADLINE
from pipeline.studies.compare.outcomes import TEST
from pipeline.studies.compare.records import ArmRow, ComparisonRecord
from pipeline.studies.compare.verdict import conclusions


@dataclass(frozen=True)
class ComparedArm:
    """All arms of one model, selector and size.

    Attributes
    ----------
    model : what was tuned: the LLM, or one of its stand-ins.
    selector, size, samples : how the coresets were chosen; size is None for `full`.
    sees_validation : whether the selector looks at the validation period.
    recall, ndcg : Recall@10 and NDCG@10, means over seeds, draws and test users.
    difference, low, high : NDCG@10 minus that of the control, with its 95% interval; None for the control itself.
    above_control, above_untuned : whether it is above the control, and above the untuned model, beyond chance.
    seconds : mean wall time of an arm, scoring included.
    """

    model: str
    selector: str
    size: float | None
    samples: int
    sees_validation: bool
    recall: float | None
    ndcg: float | None
    difference: float | None
    low: float | None
    high: float | None
    above_control: bool | None
    above_untuned: bool | None
    seconds: float

    @classmethod
    def of(cls, row: ArmRow) -> ComparedArm:
        """Read the arm of a row of the record."""
        recall, ndcg = (row["metrics"].get(TEST, {}).get(name) for name in HEADLINE)
        difference = None if ndcg is None else ndcg.get("difference")
        return cls(
            model=row["model"],
            selector=row["selector"],
            size=row["size"],
            samples=row["samples"],
            sees_validation=row["sees_validation"],
            recall=None if recall is None else recall["value"],
            ndcg=None if ndcg is None else ndcg["value"],
            difference=None if difference is None else difference["value"],
            low=None if difference is None else difference["low"],
            high=None if difference is None else difference["high"],
            above_control=row["above_control"],
            above_untuned=row["above_zero_shot"],
            seconds=row["seconds"]["total"],
        )


@dataclass(frozen=True, repr=False)
class Comparison(MaskedRepr):
    """The result of a comparison. All of it is a view of one record, the content of `arms/comparison-TARGET.json`.

    Attributes
    ----------
    record : that record, metrics by slice included.
    page : the path or URI of the page with plots.
    """

    record: ComparisonRecord = field(repr=False)
    page: str

    @property
    def arms(self) -> tuple[ComparedArm, ...]:
        """A row for each model, selector and size."""
        return tuple(ComparedArm.of(row) for row in self.record["rows"])

    @property
    def control(self) -> str:
        """The selector that differences are taken from."""
        return self.record["control"]

    @property
    def chosen(self) -> dict[float, str | None]:
        """The selector that validation chooses, by size; None where no coreset is better than no tuning."""
        return {choice["size"]: choice["selector"] for choice in self.record["chosen"]}

    @property
    def conclusions(self) -> tuple[str, ...]:
        """Sentences for a person: the winners, and what validation chooses."""
        return tuple(conclusions(self.record))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks that a reader of the table needs."""
        return tuple(self.record["warnings"])

    def table(self) -> pa.Table:
        """Return the arms as a table, a column for each attribute of `ComparedArm`."""
        return pa.Table.from_pylist([asdict(arm) for arm in self.arms])
