"""The specification of an ingest."""

from __future__ import annotations

from typing import Literal

from pipeline.engine.config import Columns, DataConfig, SamplesConfig

SplitName = Literal["auto", "global_time", "leave_one_out", "column"]

#: The roles that a column of the input can play; `data.columns.<role>` names the column.
ROLES = tuple(Columns.model_fields)

#: The parts of a split, in the order in which they follow one another within a user.
PARTS = ("train", "valid", "test")


class IngestSpec(DataConfig, SamplesConfig):
    """Where the log is and how it becomes samples: the keys of the sections `data` and `samples`."""

    @classmethod
    def of(cls, data: DataConfig, samples: SamplesConfig) -> IngestSpec:
        """Join the two sections of a config."""
        return cls.model_validate({**dict(data), **dict(samples)})
