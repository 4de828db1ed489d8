"""A split that comes as files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.headers import Header
from pipeline.ingest.files.part_names import UNCLEAR, part_in, subject_of
from pipeline.ingest.ingest_spec import PARTS, IngestSpec
from pipeline.ingest.reading import plan_tasks, read_piece
from pipeline.ingest.values.column_values import decoded, is_text
from pipeline.ingest.values.columns import find_column

log = logging.getLogger("dealrec.ingest")

#: The name of the split column in messages and statistics.
_COLUMN = "(file name)"
_ELSE = "data.join_parts: true to read the files as one log and split it again"


def settle_split(spec: IngestSpec, headers: Sequence[Header]) -> tuple[IngestSpec, list[Header]]:
    """Decide what `data.split: auto` means for these files, and assign parts to files if their names say the split.

    A split column in the files comes first. One that was not asked for is used if it holds several parts. Names are
    judged together: they say a split if some stand for one part and others for another part or for none.

    Raises `UserError` if the names say a split and another one is asked for, and for a split that lacks a part.
    """
    headers = list(headers)
    if spec.split == "auto" and spec.columns.get("split") is not None:
        spec = spec.model_copy(update={"split": "column"})
    parts = _parts([header.file for header in headers])
    in_file = find_column(headers[0], "split", spec.columns.get("split"), in_path=False)
    if spec.split == "auto" and in_file is not None and not spec.join_parts and _holds_parts(headers, in_file):
        log.info("data.split: column, by '%s'; global_time or leave_one_out would split the log again", in_file)
        spec = spec.model_copy(update={"split": "column"})
    if spec.join_parts or len(set(parts)) < 2 or (spec.split == "column" and in_file is not None):
        return spec.model_copy(update={"split": "global_time"}) if spec.split == "auto" else spec, headers
    shown = _shown(headers, parts)
    looks = f"data.interactions: {spec.interactions}: judging by their names, the files are parts of a split ({shown})"
    if spec.split not in ("auto", "column"):
        raise UserError(
            f"{looks}, but data.split is {spec.split}.",
            f"Set data.split: column to read them as that split, or {_ELSE}.",
        )
    odd = [header.file.name for header, part in zip(headers, parts, strict=True) if part is None or part in UNCLEAR]
    if odd:
        raise UserError(
            f"{looks}, but {odd[0]} does not say which part it is.",
            f"Rename or move it, select the others with a pattern, or set {_ELSE}.",
        )
    lacking = [part for part in PARTS if part not in parts]
    if lacking:
        raise UserError(
            f"{looks}, but none is for {' or '.join(lacking)}.",
            f"Add the missing part under a name such as train.csv, valid.csv or test.csv, or set {_ELSE}.",
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
    """Return whether a column holds words for several parts, reading blocks until there are two."""
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


def _parts(files: Sequence[DataFile]) -> list[str | None]:
    """Return the part of each file, or None for all files if one of them only seems to be a part."""
    parts = [_part(file) for file in files]
    lone = _lone_name(files, parts)
    if lone is None:
        return parts
    log.info("data.interactions: %s is read as part of the log: no other file is named like a part of a split", lone)
    return [None] * len(files)


def _lone_name(files: Sequence[DataFile], parts: Sequence[str | None]) -> str | None:
    """Return the one name with a word such as `test` that belongs to its subject, as in `pregnancy-test.csv`.

    None if several names have such a word, if the name has no subject, or if another file has the same subject: then
    `log_test.csv` is a part of what `log.csv` begins.
    """
    if len({part for part in parts if part}) != 1 or any(_says_split(file) for file in files):
        return None
    named = {_bearing(file, part) for file, part in zip(files, parts, strict=True) if part}
    subjects = {subject_of(name) for name in named}
    others = {
        subject_of(name)
        for file, part in zip(files, parts, strict=True)
        if part is None
        for name in file.path.split("/")[-2:]
    }
    alone = len(subjects) == 1 and all(subjects) and not subjects & others
    return min(named) if alone and None in parts else None


def _bearing(file: DataFile, part: str) -> str:
    """Return the file's or folder's name that stands for the part."""
    return next(name for name in reversed(file.path.split("/")) if part_in(name) == part)


def _says_split(file: DataFile) -> bool:
    return any(column in file.given and column not in file.unasked for column in ("split", "subset"))


def _part(file: DataFile) -> str | None:
    """Return the part by a `split=...` folder or a table's partition column, else by the names in the path."""
    for column in ("split", "subset"):
        value = file.given.get(column)
        if value is not None and column not in file.unasked:
            return part_in(value)
    return file.part


def _shown(headers: Sequence[Header], parts: Sequence[str | None]) -> str:
    """Return one file per part."""
    first = {part: header.file.name for header, part in reversed(list(zip(headers, parts, strict=True))) if part}
    return ", ".join(f"{part}: {first[part].rsplit('/', 1)[-1]}" for part in (*PARTS, *UNCLEAR) if part in first)
