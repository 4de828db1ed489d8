"""URIs that can be opened, and the messages about the others."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from traceback import format_exception_only

import pyarrow.fs as pafs
import pytest

from cluster.errors import UserError
from cluster.schemes import checked_uri, local_path, scheme_of
from cluster.storage import Storage, is_remote, open_filesystem


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("log.csv", ""),
        ("/a/b=c:/x", ""),
        ("C:\\logs\\x.csv", ""),
        ("C:/logs/x.csv", ""),
        ("file:///a", ""),
        ("file:/a", ""),
        ("s3://b/x", "s3"),
        ("S3A://b/x", "s3a"),
        ("dbfs:/x", "dbfs"),
    ],
)
def test_the_scheme_of_a_path_is_none(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme
    assert is_remote(uri) == bool(scheme)


@pytest.mark.parametrize("uri", ["/a/b", "file:///a/b", "file:/a/b", "file://localhost/a/b", "FILE:///a/b"])
def test_file_uris_are_paths(uri: str) -> None:
    assert local_path(uri) == "/a/b"
    assert open_filesystem(uri)[1] == "/a/b"
    assert Storage.at(uri).uri == "/a/b"


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://h/x.csv", "Download it"),
        ("https://h/x.csv", "hf://datasets/"),
        ("ftp://h/x.csv", "Download it"),
        ("dbfs:/x", "/dbfs/"),
        ("az://c/x", "abfss://CONTAINER@"),
        ("wasbs://c@a.blob.core.windows.net/x", "abfss://CONTAINER@"),
        ("oss://b/x", "endpoint_override"),
        ("nosuch://x", "s3://, gs://, abfss:// or hf://"),
    ],
)
def test_other_schemes_have_their_remedy(uri: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"cannot be opened: {scheme_of(uri)}: is not supported\.") as caught:
        open_filesystem(uri)
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_spellings_of_other_systems() -> None:
    assert checked_uri("s3a://b/x") == checked_uri("s3n://b/x") == checked_uri("S3://b/x") == "s3://b/x"


@pytest.mark.parametrize(
    "uri",
    [
        "nosuch://id:secret@b/x?region=eu&session_token=secret",
        "s3://id:sec/secret@b/x",
        "s3://id:sec secret@b/x",
        "s3://b/x?secret_key=secret",
        "abfss://c:secret@a.dfs.core.windows.net/x?q=1",
        "hdfs://id:secret@name:8020/log",
    ],
)
def test_no_key_is_shown(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow quotes an address that it cannot parse, and a traceback shows the errors that led to an error."""
    monkeypatch.delenv("CLASSPATH", raising=False)
    with pytest.raises(UserError, match="cannot be opened") as caught:
        open_filesystem(uri)
    assert "secret" not in "".join(format_exception_only(caught.value)).replace("secret_key", "")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_hadoop_is_looked_for_before_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "HADOOP_HOME", "CLASSPATH", "ARROW_LIBHDFS_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"missing: JAVA_HOME, HADOOP_HOME, CLASSPATH.*hadoop classpath --glob"):
        open_filesystem("hdfs://name:8020/log")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("HADOOP_HOME", str(tmp_path))
    monkeypatch.setenv("CLASSPATH", "x.jar")
    with pytest.raises(UserError, match=r"native has no libhdfs\.so"):
        open_filesystem("viewfs://name/log")


def test_azure_and_the_hub_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is contacted; the filesystems can be sent to tasks."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", os.environ.get("AZURE_TOKEN_CREDENTIALS", "prod"))
    for uri, path in (
        ("abfss://box@shop.dfs.core.windows.net/log/x.csv", "box/log/x.csv"),
        ("hf://datasets/owner/name/x.csv", "datasets/owner/name/x.csv"),
    ):
        filesystem, inside = open_filesystem(uri)
        assert inside == path
        assert isinstance(pickle.loads(pickle.dumps(filesystem)), pafs.FileSystem)
