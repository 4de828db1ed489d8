"""Which URIs are opened, under which spelling, and what to do about the others."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cluster.errors import UserError

#: Spellings of other systems for what Arrow opens.
_SAME = {"s3a": "s3", "s3n": "s3"}
#: What Arrow opens: Amazon S3 and the like, Google Cloud Storage, Azure Data Lake, the Hugging Face hub, Hadoop.
OPENED = ("s3", "gs", "gcs", "abfs", "abfss", "hf", "hdfs", "viewfs", "mock")
_KNOWN = "Give a local path, or an s3://, gs://, abfss:// or hf:// URI."
_AZURE = "Give it as abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH."
_REMEDIES = {
    "http": "Download it, and give the path of the file.",
    "https": "Download it, and give the path of the file; on the Hugging Face hub, give hf://datasets/OWNER/NAME/PATH.",
    "ftp": "Download it, and give the path of the file.",
    "dbfs": "On Databricks, give the same path below /dbfs/ or /Volumes/; elsewhere, copy it to a disk or a store.",
    "az": _AZURE,
    "wasb": _AZURE,
    "wasbs": _AZURE,
    "adl": _AZURE,
    "oss": "Give it as s3://BUCKET/PATH?endpoint_override=ENDPOINT, through the store's S3 interface.",
    "cos": "Give it as s3://BUCKET/PATH?endpoint_override=ENDPOINT, through the store's S3 interface.",
}
#: Two letters at least, so that a drive of Windows is none.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_HADOOP = ("JAVA_HOME", "HADOOP_HOME", "CLASSPATH")


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case, "" for a path; `file:` is that of a path."""
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    return "" if scheme == "file" else scheme


def local_path(uri: str) -> str:
    """A path, from a path or a `file:` URI."""
    return re.sub(r"^file:(//(localhost)?(?=/))?", "", uri, flags=re.IGNORECASE)


def shown(uri: str) -> str:
    """A URI for messages, without what may be a key to it: user, password, settings."""
    if not scheme_of(uri) or "://" not in uri:
        return uri
    parts = urlsplit(uri)
    # abfss has its container where others have a user.
    keep = parts.scheme.startswith("abfs") and ":" not in parts.netloc.rpartition("@")[0]
    place = parts.netloc if keep else parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


def checked_uri(uri: str) -> str:
    """The URI in the spelling that Arrow opens.

    Raises `UserError` for a scheme that it does not open, and for Hadoop's where Hadoop is not set up, before its
    libraries print what they miss.
    """
    scheme = scheme_of(uri)
    scheme = _SAME.get(scheme, scheme)
    if scheme not in OPENED:
        raise UserError(f"{shown(uri)} cannot be opened: {scheme}: is not read.", _REMEDIES.get(scheme, _KNOWN))
    if scheme in ("hdfs", "viewfs"):
        _check_hadoop(uri)
    if scheme.startswith("abfs") and shutil.which("az") is None:
        # Else the shell says in the middle of a message that it did not find the command.
        os.environ.setdefault("AZURE_TOKEN_CREDENTIALS", "prod")
    return f"{scheme}:{uri.split(':', 1)[1]}"


def _check_hadoop(uri: str) -> None:
    lacking = [name for name in _HADOOP if not os.environ.get(name)]
    native = os.environ.get("ARROW_LIBHDFS_DIR")
    if native and "HADOOP_HOME" in lacking:
        lacking.remove("HADOOP_HOME")
    remedy = "Set {} on every node (CLASSPATH=$(hadoop classpath --glob)), or copy the data to a disk or another store."
    if lacking:
        raise UserError(
            f"{shown(uri)} cannot be opened: Hadoop's client is not set up (not set: {', '.join(lacking)}).",
            remedy.format(", ".join(lacking)),
        )
    folder = Path(native or f"{os.environ['HADOOP_HOME']}/lib/native")
    if not (folder / "libhdfs.so").exists() or "hadoop-common" not in os.environ["CLASSPATH"]:
        raise UserError(
            f"{shown(uri)} cannot be opened: there is no libhdfs.so in {folder}, or no hadoop-common in CLASSPATH.",
            remedy.format("HADOOP_HOME or ARROW_LIBHDFS_DIR, and CLASSPATH,"),
        )
