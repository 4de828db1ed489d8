"""Finding input files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.ingest.files.sources import find_files


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _names(root: Path, location: str, skip: str = "") -> list[str]:
    return [Path(file.path).relative_to(root).as_posix() for file in find_files(location, "data.items", skip)]


def test_a_file_a_directory_and_globs(tmp_path: Path) -> None:
    _touch(tmp_path, "b.csv", "a.csv.gz", "deep/c.CSV", "_SUCCESS", ".hidden.csv", "_tmp/d.csv", "README.md")
    assert _names(tmp_path, str(tmp_path / "b.csv")) == ["b.csv"]
    assert _names(tmp_path, f"file://{tmp_path}/b.csv") == ["b.csv"]
    assert _names(tmp_path, str(tmp_path)) == ["a.csv.gz", "b.csv", "deep/c.CSV"]
    assert _names(tmp_path, str(tmp_path / "[b-z].csv")) == ["b.csv"]
    assert _names(tmp_path, str(tmp_path / "de*" / "*.CSV")) == ["deep/c.CSV"]
    assert _names(tmp_path, str(tmp_path / "**" / "c.*")) == ["deep/c.CSV"]
    assert _names(tmp_path, str(tmp_path / "**")) == ["a.csv.gz", "b.csv", "deep/c.CSV"]
    assert _names(tmp_path, str(tmp_path / "d*p")) == ["deep/c.CSV"]


def test_formats_and_compression(tmp_path: Path) -> None:
    _touch(tmp_path, "a.pq", "b.tsv.xz", "c.ndjson.bz2", "d.inter.zst")
    found = [find_files(str(tmp_path / name), "k")[0] for name in ("a.pq", "b.tsv.xz", "c.ndjson.bz2", "d.inter.zst")]
    assert [file.format for file in found] == ["parquet", "tsv", "jsonl", "recbole"]
    assert [file.compression for file in found] == [None, "xz", "bz2", "zstd"]


def test_a_recbole_folder_holds_both(tmp_path: Path) -> None:
    _touch(tmp_path, "ml.inter", "ml.item", "ml.user")
    assert _names(tmp_path, str(tmp_path), ".item") == ["ml.inter"]
    assert _names(tmp_path, str(tmp_path), ".inter") == ["ml.item"]


@pytest.mark.parametrize(
    ("files", "location", "message"),
    [
        ([], "log.csv", r"data.items: .*log.csv does not exist\. Correct the path"),
        ([], "*.csv", "no file matches"),
        (["deep/x.csv"], "*.csv", "no file matches"),
        ([], "", "has no data file .it holds nothing"),
        (["readme.md"], "", "it holds readme.md"),
        (["a.csv", "b.parquet"], "", "mixes formats"),
        (["log.xlsx"], "log.xlsx", r"unknown extension '\.xlsx'.*Give Parquet, CSV"),
        (["log"], "log", "unknown extension ''"),
        (["log.parquet.gz"], "log.parquet.gz", "compressed Parquet"),
        (["log.pkl"], "log.pkl", r"log.pkl is a pickle\. .*Parquet"),
        (["log.joblib.gz"], "log.joblib.gz", "is a pickle"),
        (["log.pt"], "", "is a pickle"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, files: list[str], location: str, message: str) -> None:
    _touch(tmp_path, *files)
    with pytest.raises(UserError, match=message) as caught:
        find_files(str(tmp_path / location), "data.items")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "http://host/log.csv",
            r"data\.items: http://host/log\.csv cannot be opened: http: is not supported\. Download",
        ),
        ("hf://datasets/owner/name/x.csv", r"data\.items: hf://datasets/owner/name/x\.csv cannot be listed \(.*\)"),
    ],
)
def test_places_that_cannot_be_reached_are_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, location: str, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message) as caught:
        find_files(location, "data.items")
    assert "\n" not in str(caught.value)
