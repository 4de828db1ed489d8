"""Input files are found, or refused with a remedy."""

from __future__ import annotations

import subprocess
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
        (["log.xlsx"], "log.xlsx", r"log\.xlsx is a spreadsheet \(\.xlsx\)\. .*as text .*CSV"),
        (["log.zip"], "", r"log\.zip is an archive \(\.zip\)\. Unpack it"),
        (["log.tar.gz"], "log.tar.gz", "is an archive"),
        (["log.foo"], "log.foo", r"unknown extension '\.foo'.*Give Parquet, CSV"),
        (["log"], "log", "log has no extension"),
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
    ("name", "content", "message"),
    [
        (
            "ratings.dat",
            b"1::1193::5::978300760\n",
            r"by '::' without column names\. .*sed 's/::/\\t/g'",
        ),
        ("u.data", b"196\t242\t3\n", r"separated by tabs without column names\..*printf 'item_id\\ttitle\\tcolumn_3"),
        ("a.txt", b"user\titem\tts\n", r"separated by tabs\. Rename it to \.tsv"),
        ("a.txt", b"user;item\n", r"separated by semicolons\. Convert it: sed"),
        ("a.log", b'{"user": 1}\n', r"unknown extension '\.log'\. Inside it is JSON Lines\. Rename it to \.jsonl"),
        ("a.bin", b"PK\x03\x04", "Inside it is an archive"),
        ("a.dat", b"PAR1", r"Inside it is Parquet\. Rename it to \.parquet"),
        ("a.dat", b"\x00\x01", "does not tell its format. Give Parquet"),
    ],
)
def test_files_of_other_kinds_are_told_by_their_first_bytes(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_files(str(tmp_path / name), "data.items")


def test_the_command_that_converts_a_file_works(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_bytes(b"1::1193::5::978300760\n2::7::3::978300761\n")
    with pytest.raises(UserError) as caught:
        find_files(str(tmp_path), "data.interactions")
    command = caught.value.remedy.partition("first command: ")[2].rstrip(".")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    lines = (tmp_path / "log.tsv").read_text().splitlines()
    assert lines == ["user_id\titem_id\trating\ttimestamp", "1\t1193\t5\t978300760", "2\t7\t3\t978300761"]


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
