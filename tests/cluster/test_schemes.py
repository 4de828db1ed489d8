"""URIs that can be opened, and the messages about the others."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster.errors import UserError
from cluster.schemes import checked_uri, local_path, redacted_uri, scheme_of
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


def test_no_key_is_shown() -> None:
    assert redacted_uri("s3://id:secret@b/x?region=eu&session_token=t") == "s3://b/x"
    assert redacted_uri("abfss://c@a.dfs.core.windows.net/x") == "abfss://c@a.dfs.core.windows.net/x"
    assert "secret" not in redacted_uri("abfss://c:secret@a.dfs.core.windows.net/x")
    assert redacted_uri("/a@b:c/d") == "/a@b:c/d"
    with pytest.raises(UserError) as caught:
        open_filesystem("nosuch://id:secret@b/x")
    assert "secret" not in str(caught.value)


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
