"""Files that are not what they seem."""

from __future__ import annotations

import bz2
import gzip
import io
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
from pipeline.ingest.contents import check_contents, is_pickle, open_text
from pipeline.ingest.sources import find_files

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
        ("log.csv", b"PAR1....", "is Parquet inside"),
        ("log.parquet", CSV, "is not a Parquet file"),
        ("log.csv", "a,b\n".encode("utf-16"), "binary or UTF-16"),
        ("log.csv", gzip.compress(CSV, mtime=0), "is gzip inside, by its name not compressed"),
        ("log.csv.gz", CSV, "is not compressed inside, by its name gzip"),
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
