"""Files that are not what they seem."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.errors import UserError
from pipeline.ingest.files.contents import check_contents, is_pickle, open_text
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files

CSV = b"user_id,item_id,timestamp\n1,2,3\n"
FRAME = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})


def _torch_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
    return buffer.getvalue()


def _check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    check_contents(find_files(str(path), "data.interactions")[0])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value", [FRAME, [1, 2], {"a": 1}, OrderedDict(a=1), np.arange(3)], ids=lambda v: type(v).__name__
)
def test_pickles_of_every_protocol_are_known(value: object, protocol: int) -> None:
    assert is_pickle(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_whatever_its_name(tmp_path: Path, wrap: Callable[[bytes], bytes], protocol: int) -> None:
    suffix = {bytes: "", gzip.compress: ".gz", lzma.compress: ".xz", bz2.compress: ".bz2"}[wrap]
    with pytest.raises(UserError, match=r"log\.csv.* is a pickle.*Parquet"):
        _check(tmp_path / f"log.csv{suffix}", wrap(pickle.dumps(FRAME, protocol=protocol)))


@pytest.mark.parametrize("data", [_torch_archive(), zlib.compress(pickle.dumps(FRAME))])
def test_archives_of_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UserError, match="is a pickle"):
        _check(tmp_path / "log.csv", data)


@pytest.mark.parametrize(
    "data",
    [
        CSV,
        b"customer\nname\n",
        b"c\nd\n",
        b"]x,y\n",
        b"(l,m)\n",
        b"x,y\n1,2\n",
        b'{"a": 1}\n',
        b"\xef\xbb\xbfa,b\n",
    ],
)
def test_text_is_no_pickle(data: bytes) -> None:
    assert not is_pickle(data)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv", b"", r"is empty \(0 bytes\)"),
        ("log.csv", b"PAR1....", "holds Parquet"),
        ("log.parquet", CSV, "is not a Parquet file"),
        ("log.csv", "a,b\n".encode("utf-16"), "binary or UTF-16"),
        ("log.csv", gzip.compress(CSV, mtime=0), "is gzip, but its name says not compressed"),
        ("log.csv.gz", CSV, "is not compressed, but its name says gzip"),
        ("log.csv.gz", gzip.compress(CSV, mtime=0)[:-12], "cannot be read"),
        ("log.csv.xz", lzma.compress(CSV)[:-16], "cannot be read"),
    ],
)
def test_what_does_not_fit_its_name_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _check(tmp_path / name, data)
    assert name in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(("suffix", "wrap"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_text_is_opened_decompressed(tmp_path: Path, suffix: str, wrap: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"log.csv{suffix}"
    _check(path, wrap(b"\xef\xbb\xbf" + CSV))
    with open_text(find_files(str(path), "k")[0]) as text:
        assert text.read().encode() == CSV


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json.gz", "csv.xz", "csv.bz2", "inter"])
def test_empty_parts_are_left_out(tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture) -> None:
    wraps: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
    wrap = wraps.get(extension.rsplit(".", 1)[-1], bytes)
    full = b'{"user_id": 1}\n' if "json" in extension else b"user_id\n1\n"
    contents = [wrap(b""), wrap(b"\n \n"), wrap(full), b""]
    for number, data in enumerate(contents):
        (tmp_path / f"part-{number}.{extension}").write_bytes(data)
    with caplog.at_level(logging.INFO, logger="dealrec.ingest"):
        headers = read_headers(find_files(str(tmp_path), "k"))
    assert [header.file.path.rsplit("/", 1)[-1] for header in headers] == [f"part-2.{extension}"]
    assert "Left out 3 of 4 files, which are empty" in caplog.text
    (tmp_path / f"part-2.{extension}").unlink()
    with pytest.raises(UserError, match=r"All 3 files are empty: .*part-0"):
        read_headers(find_files(str(tmp_path), "k"))
    with pytest.raises(UserError, match=rf"part-0\.{extension} is empty\."):
        read_headers(find_files(str(tmp_path / f"part-0.{extension}"), "k"))


def test_parquet_parts_without_rows_need_not_have_the_same_types(tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [], "item_id": []}, dtype=object).to_parquet(tmp_path / "a.parquet")
    FRAME.to_parquet(tmp_path / "b.parquet")
    assert len(read_headers(find_files(str(tmp_path), "k"))) == 1
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.parquet is empty \(0 bytes\)"):
        read_headers(find_files(str(tmp_path), "k"))
