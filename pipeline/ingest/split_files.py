"""A split that comes as files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import Header
from pipeline.ingest.files.part_names import UNCLEAR, part_in
from pipeline.ingest.ingest_spec import PARTS, IngestSpec
from pipeline.ingest.reading import plan_tasks, read_piece
from pipeline.ingest.values.column_values import decoded, is_text
from pipeline.ingest.values.columns import find_column

log = logging.getLogger("dealrec.ingest")

#: What the column is called in messages and statistics.
_COLUMN = "(file name)"
_ELSE = "data.join_parts: true to put the files together and split them anew"


def settle_split(spec: IngestSpec, headers: Sequence[Header]) -> tuple[IngestSpec, list[Header]]:
    """What `data.split: auto` means for these files, and the part of each where their names say the split.

    A split column that the files have comes first; one that was not asked for counts when it holds several.
    Names are looked at together: they say a split when some stand for one part and others for another or for none.

    Raises `UserError` for names that say a split when another is asked for, and for a split that lacks a part.
    """
    headers = list(headers)
    if spec.split == "auto" and spec.columns.get("split") is not None:
        spec = spec.model_copy(update={"split": "column"})
    parts = [_part(header.file) for header in headers]
    in_file = find_column(headers[0], "split", spec.columns.get("split"), in_path=False)
    if spec.split == "auto" and in_file is not None and not spec.join_parts and _holds_parts(headers, in_file):
        log.info("data.split: column, by '%s'; global_time or leave_one_out splits the log anew", in_file)
        spec = spec.model_copy(update={"split": "column"})
    if spec.join_parts or len(set(parts)) < 2 or (spec.split == "column" and in_file is not None):
        return spec.model_copy(update={"split": "global_time"}) if spec.split == "auto" else spec, headers
    shown = _shown(headers, parts)
    looks = f"data.interactions: {spec.interactions}: by their names the files are parts of a split ({shown})"
    if spec.split not in ("auto", "column"):
        raise UserError(
            f"{looks}, and data.split is {spec.split}.",
            f"Set data.split: column to read them as that split, or {_ELSE}.",
        )
    odd = [header.file.name for header, part in zip(headers, parts, strict=True) if part is None or part in UNCLEAR]
    if odd:
        raise UserError(
            f"{looks}, and {odd[0]} does not say which part it is.",
            f"Rename or move it, or name the others with a pattern; or set {_ELSE}.",
        )
    lacking = [part for part in PARTS if part not in parts]
    if lacking:
        raise UserError(
            f"{looks}, and none is for {' or '.join(lacking)}.",
            f"Add the part (names such as train.csv, valid.csv, test.csv), or set {_ELSE}.",
        )
    log.info("data.split: column, by the names of the files (%s)", shown)
    named = [
        replace(
            header,
            file=replace(header.file, given={**header.file.given, _COLUMN: part}),
            kinds={**header.kinds, _COLUMN: "text"},
        )
        for header, part in zip(headers, parts, strict=True)
    ]
    columns = spec.columns.model_copy(update={"split": _COLUMN})
    return spec.model_copy(update={"split": "column", "columns": columns}), named


def _holds_parts(headers: Sequence[Header], column: str) -> bool:
    """Whether a column holds words for parts and for several of them, by its blocks until there are two."""
    parts: set[str | None] = set()
    for piece in (piece for pieces in plan_tasks(headers) for piece in pieces):
        for table, _ in read_piece(piece, [column]):
            values = pc.drop_null(decoded(table[column]))
            if len(values) and not is_text(values.type):
                return False
            parts |= {part_in(word) for word in pc.unique(values).to_pylist() if isinstance(word, str)}
            if len(parts) > 1 or None in parts:
                return None not in parts
    return False


def _part(file: DataFile) -> str | None:
    """By the value of a `split=...` folder, or a partition column of a table, else by the names in the path."""
    for column in ("split", "subset"):
        value = file.given.get(column)
        if value is not None and column not in file.unasked:
            return part_in(value)
    return file.part


def _shown(headers: Sequence[Header], parts: Sequence[str | None]) -> str:
    """One file of each part."""
    first = {part: header.file.name for header, part in reversed(list(zip(headers, parts, strict=True))) if part}
    return ", ".join(f"{part}: {first[part].rsplit('/', 1)[-1]}" for part in (*PARTS, *UNCLEAR) if part in first)
