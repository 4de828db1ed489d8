"""The URI schemes that can be opened, their spellings, and remedies for the others."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from cluster.errors import UserError

#: Other systems' spellings of schemes that Arrow opens.
_SAME = {"s3a": "s3", "s3n": "s3"}
#: Schemes that Arrow opens: S3 and compatible stores, Google Cloud Storage, Azure Data Lake, Hugging Face, Hadoop.
OPENED = ("s3", "gs", "gcs", "abfs", "abfss", "hf", "hdfs", "viewfs", "mock")
_KNOWN = "Give a local path, or an s3://, gs://, abfss:// or hf:// URI."
_AZURE = "Give it as abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH."
_REMEDIES = {
    "http": "Download it, and give the file's path.",
    "https": "Download it, and give the file's path; for the Hugging Face hub, give hf://datasets/OWNER/NAME/PATH.",
    "ftp": "Download it, and give the file's path.",
    "dbfs": "On Databricks, give the path below /dbfs/ or /Volumes/; elsewhere, copy it to a disk or a store.",
    "az": _AZURE,
    "wasb": _AZURE,
    "wasbs": _AZURE,
    "adl": _AZURE,
    "oss": "Give it as s3://BUCKET/PATH?endpoint_override=ENDPOINT, through the store's S3 interface.",
    "cos": "Give it as s3://BUCKET/PATH?endpoint_override=ENDPOINT, through the store's S3 interface.",
}
#: At least two letters, so that a Windows drive is not taken for a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_HADOOP = ("JAVA_HOME", "HADOOP_HOME", "CLASSPATH")


def scheme_of(uri: str) -> str:
    """Return a URI's scheme in lower case; "" for a path or a `file:` URI."""
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    return "" if scheme == "file" else scheme


def local_path(uri: str) -> str:
    """Return the path that a path or a `file:` URI names."""
    return re.sub(r"^file:(//(localhost)?(?=/))?", "", uri, flags=re.IGNORECASE)


def checked_uri(uri: str) -> str:
    """Return the URI in the spelling that Arrow opens.

    Raises `UserError` for a scheme that Arrow does not open. Raises it for Hadoop's schemes too if Hadoop is not set
    up, because its libraries would otherwise print their own errors.
    """
    scheme = scheme_of(uri)
    scheme = _SAME.get(scheme, scheme)
    if scheme not in OPENED:
        raise UserError(f"{uri} cannot be opened: {scheme}: is not supported.", _REMEDIES.get(scheme, _KNOWN))
    if scheme in ("hdfs", "viewfs"):
        _check_hadoop(uri)
    if scheme.startswith("abfs") and shutil.which("az") is None:
        # Otherwise the shell prints "az: not found" in the middle of a message.
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
            f"{uri} cannot be opened: Hadoop's client is not set up (missing: {', '.join(lacking)}).",
            remedy.format(", ".join(lacking)),
        )
    folder = Path(native or f"{os.environ['HADOOP_HOME']}/lib/native")
    if not (folder / "libhdfs.so").exists() or "hadoop-common" not in os.environ["CLASSPATH"]:
        raise UserError(
            f"{uri} cannot be opened: {folder} has no libhdfs.so, or CLASSPATH has no hadoop-common.",
            remedy.format("HADOOP_HOME or ARROW_LIBHDFS_DIR, and CLASSPATH,"),
        )
