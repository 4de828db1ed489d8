"""Splits that come as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.progress import SilentProgress
from cluster.storage import Storage
from pipeline.engine.config import Columns
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.part_names import part_in, part_of
from pipeline.ingest.files.sources import find_files
from pipeline.ingest.ingest_log import ingest
from pipeline.ingest.ingest_spec import PARTS, IngestSpec
from pipeline.ingest.reading import plan_tasks, read_piece
from pipeline.ingest.split_files import settle_split
from tests.pipeline.ingest.logs import WRITERS, files_of, make_log, write


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in ("train", "ml.train", "x_TRAIN", "train-00000-of-00002", "trainset", "TrainData")
        ),
        *((name, "train") for name in ("interactions_train", "training 2024", "train1", "XTrain")),
        *((name, "valid") for name in ("valid", "validation", "val", "dev", "VAL-2", "validset", "split-dev")),
        *((name, "test") for name in ("test", "ml.test", "test_set", "testing", "testData", "games-test-3")),
        *((name, None) for name in ("log", "trainer", "contest", "value", "device", "latest", "train_test", "attest")),
        *((name, name) for name in ("eval", "holdout")),
    ],
)
def test_names_are_read_by_words(name: str, part: str | None) -> None:
    assert part_in(name) == part


def test_a_file_comes_before_its_folders() -> None:
    assert part_of("train/part-0") == "train"
    assert part_of("train/a/test-0") == "test"
    assert part_of("split=valid/x") == "valid"
    assert part_of("2024/part-0") is None


LAYOUTS = {
    "recbole": ("ml.train.inter", "ml.valid.inter", "ml.test.inter"),
    "names": ("train.csv", "validation.csv", "test.csv"),
    "case": ("Log_TRAIN.csv", "Log_Dev.csv", "Log_Test.csv"),
    "hub": ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
    "folders": ("train/part-0.csv", "val/part-0.csv", "test/part-0.csv"),
    "partitions": ("split=train/part-0.csv", "split=valid/part-0.csv", "split=test/part-0.csv"),
}


def _write(tmp_path: Path, names: tuple[str, ...]) -> str:
    for number, name in enumerate(names):
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix[1:]](make_log(seed=number), path)
    return str(tmp_path / "log")


def _settle(location: str, **values: Any) -> tuple[IngestSpec, dict[str, list[str | None]]]:
    """Return the settled specification, and the splits of the rows of each file."""
    files = find_files(location, "data.interactions", skip_suffix=".item")
    spec, headers = settle_split(IngestSpec(interactions=location, **values), read_headers(files))
    column = spec.columns.get("split")
    splits: dict[str, list[str | None]] = {}
    for header in headers if column else ():
        (pieces,) = plan_tasks([header])
        blocks = [table for piece in pieces for table, _ in read_piece(piece, [str(column)])]
        splits[header.file.name.removeprefix(f"{location}/")] = pa.concat_tables(blocks)[column].unique().to_pylist()
    return spec, splits


@pytest.mark.parametrize("asked", [{}, {"split": "column"}])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_read_as_the_split_that_they_are(tmp_path: Path, layout: str, asked: dict[str, Any]) -> None:
    spec, splits = _settle(_write(tmp_path, LAYOUTS[layout]), **asked)
    assert spec.split == "column"
    assert splits == {name: [part] for name, part in zip(LAYOUTS[layout], PARTS, strict=True)}


@pytest.mark.parametrize("split", ["global_time", "leave_one_out"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_split_must_say_that_the_files_are_joined(tmp_path: Path, layout: str, split: str) -> None:
    location = _write(tmp_path, LAYOUTS[layout])
    with pytest.raises(
        UserError, match=rf"parts of a split \(train: .*\), but data\.split is {split}\. .*join_parts: true"
    ):
        _settle(location, split=split)
    spec, _ = _settle(location, split=split, join_parts=True)
    assert (spec.split, spec.columns) == (split, Columns())
    assert _settle(location, join_parts=True)[0].split == "global_time"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.csv", "test.csv"), r"none is for valid\. Add the missing part .*valid\.csv.*join_parts: true"),
        (("valid.csv", "test.csv"), "none is for train"),
        (("train.csv", "valid.csv"), "none is for test"),
        (("train.csv", "test.csv", "more.csv"), r"more\.csv does not say which part it is\. Rename"),
        (("train.csv", "valid.csv", "eval.csv"), r"eval\.csv does not say which part"),
        (("train.csv", "holdout.csv"), r"holdout\.csv does not say which part"),
        (("log.csv", "log_test.csv"), r"\(test: log_test\.csv\), but .*log\.csv does not say"),
        (("train/a.csv", "valid/a.csv", "b.csv"), r"b\.csv does not say"),
    ],
)
def test_a_split_that_is_not_whole_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    location = _write(tmp_path, names)
    with pytest.raises(UserError, match=message):
        _settle(location)
    assert _settle(location, join_parts=True)[0].split == "global_time"


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
        ("test.csv",),
        ("a.csv", "b.csv"),
        ("train_test.csv", "latest.csv"),
        ("contest/a.csv", "value/b.csv"),
    ],
)
def test_names_of_one_part_or_none_are_no_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    location = _write(tmp_path, names)
    assert _settle(location)[0].split == "global_time"
    assert _settle(location, split="leave_one_out")[0].split == "leave_one_out"


@pytest.mark.parametrize(
    "names",
    [
        ("pregnancy-test.csv", "toys.csv"),
        ("amazon_pregnancy_test.csv", "amazon_toys.csv", "amazon_books.csv"),
        ("model-train-2019.csv", "model-train-2020.csv", "toys.csv"),
        ("pregnancy-test/a.csv", "pregnancy-test/b.csv", "toys/a.csv"),
        ("eval-kits.csv", "toys.csv"),
    ],
)
def test_one_name_with_such_a_word_in_its_subject_is_no_split(
    tmp_path: Path, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    location = _write(tmp_path, names)
    with caplog.at_level("INFO", logger="dealrec.ingest"):
        assert _settle(location)[0].split == "global_time"
    assert f"{names[0].split('/')[0]} is read as part of the log" in caplog.text


@pytest.mark.parametrize(
    "names", [("test_data.csv", "toys.csv"), ("log_test.csv", "log_2.csv"), ("a-test.csv", "b-test.csv", "c.csv")]
)
def test_a_name_that_may_be_a_part_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="does not say which part it is"):
        _settle(_write(tmp_path, names))


def test_folders_that_the_user_named_say_nothing(tmp_path: Path) -> None:
    location = _write(tmp_path / "test" / "split=train", ("a.csv", "b.csv"))
    assert _settle(location)[0].split == "global_time"
    assert _settle(f"{location}/*.csv")[0].split == "global_time"


def test_a_split_column_of_the_file_comes_first(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        write(make_log().assign(split="test", fold="train"), tmp_path / f"{name}.csv")
    spec, _ = _settle(str(tmp_path), split="column")
    assert spec.columns == Columns()
    spec, splits = _settle(str(tmp_path), columns={"split": "fold"})
    assert (spec.split, splits["test.csv"]) == ("column", ["train"])


@pytest.mark.parametrize(
    ("values", "split"),
    [
        (("train", "valid", "test"), "column"),
        (("Training", "dev", "TEST"), "column"),
        (("train", "", "test"), "column"),
        (("train", "valid", "holdout"), "column"),
        (("train", "train", "train"), "global_time"),
        (("train", "valid", "Books"), "global_time"),
        ((0, 1, 2), "global_time"),
    ],
)
def test_a_split_column_is_not_made_anew(tmp_path: Path, values: tuple[Any, ...], split: str) -> None:
    frame = make_log()
    location = write(frame.assign(subset=[values[row % 3] for row in range(len(frame))]), tmp_path / "log.csv")
    assert _settle(location)[0].split == split
    assert _settle(location, join_parts=True)[0].split == "global_time"
    assert _settle(location, split="leave_one_out")[0].split == "leave_one_out"


@pytest.mark.usefixtures("ray_local")
def test_files_and_a_column_give_the_same_samples(tmp_path: Path) -> None:
    """Rows in two parts count once, in the earlier part."""
    frame = make_log(users=30)
    frame["title"] = "T" + frame["item_id"].astype(str)
    frame["split"] = np.array(PARTS)[(frame["timestamp"] - 1_000_000_000).to_numpy() * 3 // 200]
    frame = pd.concat([frame, frame[frame["split"] == "train"].head(9).assign(split="test")])
    column = write(frame, tmp_path / "column.csv")
    for part in PARTS:
        write(frame[frame["split"] == part].drop(columns="split"), tmp_path / "files" / f"{part}.csv")
    outputs = {}
    for name, spec in {
        "column": IngestSpec(interactions=column, split="column", shards=3),
        "files": IngestSpec(interactions=str(tmp_path / "files"), shards=3),
    }.items():
        out = Storage.at(tmp_path / "out" / name)
        statistics = ingest(spec, out, SilentProgress())
        assert (statistics["split"], statistics["dropped"]["duplicate"]) == ("column", 9)
        outputs[name] = {path: data for path, data in files_of(out).items() if path != "statistics.json"}
    assert outputs["files"] == outputs["column"]
