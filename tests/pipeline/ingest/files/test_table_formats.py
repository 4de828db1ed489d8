"""Folders whose files are not the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.ingest.files.sources import find_files


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


KINDS = {
    "Hudi": (
        ["t/.hoodie/hoodie.properties", "t/2024/a_1.parquet", "t/2024/a_2.parquet"],
        r"/t is an Apache Hudi table: .*old versions.*format\(\"hudi\"\)\.load\(\"/.*/t\"\)",
    ),
    "stream": (
        ["t/_spark_metadata/0", "t/p=1/part-0.parquet"],
        r"/t is the output of a Spark stream: .*_spark_metadata",
    ),
    "Paimon": (
        ["t/snapshot/snapshot-1", "t/snapshot/LATEST", "t/manifest/m-0", "t/bucket-0/data-0.parquet"],
        "/t is an Apache Paimon table",
    ),
    "Lance": (["t/_versions/1.manifest", "t/data/0.lance"], r"/t is a Lance dataset: .*lance\.dataset\(\"/.*/t\"\)"),
    "Hive": (
        ["t/base_0000003/000000_0.parquet", "t/delete_delta_0000004_0000004_0000/000000_0.parquet"],
        "/t is a transactional Hive table",
    ),
    "Hive partition": (["t/dt=1/delta_0000001_0000001/bucket_00000.parquet"], "/t/dt=1 is a transactional Hive table"),
    "DuckLake": (["t/ducklake-019a2b3c-1111-7222-8333-444455556666.parquet"], "/t is a DuckLake table"),
    "unfinished": (["t/_temporary/0/task_1/part-1.csv", "t/part-0.csv"], "/t holds the folder _temporary, so the job"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_read_by_its_log_is_refused(tmp_path: Path, kind: str) -> None:
    """It is refused by its folder, by a folder above, by one of its files, and by a pattern."""
    files, message = KINDS[kind]
    _touch(tmp_path, *files)
    for location in (tmp_path / "t", tmp_path, tmp_path / files[-1], tmp_path / "t*", tmp_path / "t" / "**" / "*.*"):
        with pytest.raises(UserError, match=message) as caught:
            find_files(str(location), "data.interactions")
        assert caught.value.message.startswith("data.interactions: /")
        assert caught.value.remedy


@pytest.mark.parametrize(
    "files",
    [
        ["t/snapshot/part-0.csv", "t/metadata/part-1.csv"],
        ["t/base_1/a.csv", "t/delta_2/b.csv"],
        ["t/ducklake-export.csv", "t/manifest.csv"],
        ["t/_SUCCESS", "t/part-0.csv", "t/.part-0.csv.crc"],
    ],
)
def test_names_that_only_resemble_them_are_read(tmp_path: Path, files: list[str]) -> None:
    _touch(tmp_path, *files)
    expected = sorted(str(tmp_path / name) for name in files if name.endswith(".csv"))
    assert [file.path for file in find_files(str(tmp_path / "t"), "k")] == expected


def test_a_job_at_work_elsewhere_stops_nobody(tmp_path: Path) -> None:
    _touch(tmp_path, "_temporary/0/x", "mine/deep/log.csv", "mine/_SUCCESS")
    assert len(find_files(str(tmp_path / "mine"), "k")) == 1
    assert len(find_files(str(tmp_path / "mine" / "deep" / "log.csv"), "k")) == 1
