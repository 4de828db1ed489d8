"""Files of a run on a local disk or an object store. Each is written completely or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.schemes import checked_uri, local_path, scheme_of


def is_remote(uri: str) -> bool:
    """Return whether a path names a store (`s3://`, `gs://`, ...) rather than a local file."""
    return bool(scheme_of(uri))


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the Arrow filesystem of a path or URI, and the path within it.

    Raises `UserError` for an unknown scheme, or if the store rejects the address.
    """
    if not is_remote(uri):
        return pafs.LocalFileSystem(), os.path.abspath(local_path(uri))
    try:
        return pafs.FileSystem.from_uri(checked_uri(uri))
    except (pa.ArrowException, OSError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        # Not from the error: Arrow quotes the address with its credentials, and a traceback would show that.
        raise UserError(f"{uri} cannot be opened: {reason}.", "Correct the address, or check the network.") from None


@dataclass(frozen=True)
class Storage:
    """A local or remote folder, addressed by names relative to its root. Picklable, so that actors can hold one."""

    uri: str

    @classmethod
    def at(cls, uri: str | Path) -> Storage:
        """Return the folder at a URI, or at a local path, which is made absolute so that workers agree on it."""
        text = str(uri)
        return cls(text.rstrip("/") if is_remote(text) else os.path.abspath(local_path(text)))

    def child(self, *parts: str) -> Storage:
        """Return a folder below this one, keeping the query (region, endpoint) of a store's URI at the end."""
        path, mark, query = self.uri.partition("?") if self.remote else (self.uri, "", "")
        return Storage("/".join((path.rstrip("/"), *parts)) + mark + query)

    @property
    def remote(self) -> bool:
        return is_remote(self.uri)

    def fs_path(self, rel: str = "") -> tuple[pafs.FileSystem, str]:
        """Return the Arrow filesystem and the path in it of a name below the root."""
        filesystem, root = open_filesystem(self.uri)
        return filesystem, f"{root}/{rel}" if rel else root

    def exists(self, rel: str = "") -> bool:
        filesystem, path = self.fs_path(rel)
        return filesystem.get_file_info(path).type != pafs.FileType.NotFound

    def size(self, rel: str) -> int:
        """Return the bytes of a file. Raises `FileNotFoundError`."""
        filesystem, path = self.fs_path(rel)
        info = filesystem.get_file_info(path)
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(path)
        return int(info.size)

    def list(self, rel: str = "", suffix: str = "") -> list[str]:
        """Return the sorted names of the files directly in a folder; empty if the folder does not exist."""
        filesystem, path = self.fs_path(rel)
        try:
            infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        except FileNotFoundError:
            # Another process created or deleted it while Arrow was looking.
            return []
        return sorted(
            info.base_name
            for info in infos
            if info.type == pafs.FileType.File and info.base_name.endswith(suffix) and not is_temporary(info.base_name)
        )

    def read_bytes(self, rel: str) -> bytes:
        filesystem, path = self.fs_path(rel)
        with filesystem.open_input_file(path) as stream:
            return bytes(stream.read())

    def read_text(self, rel: str) -> str:
        return self.read_bytes(rel).decode("utf-8")

    def read_json(self, rel: str) -> Any:
        return json.loads(self.read_text(rel))

    def read_table(self, rel: str, columns: Sequence[str] | None = None) -> pa.Table:
        filesystem, path = self.fs_path(rel)
        with filesystem.open_input_file(path) as stream:
            return pq.ParquetFile(stream).read(columns=None if columns is None else list(columns))

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Write a file so that readers see all of it or nothing: rename a temporary file, or upload in one piece."""
        filesystem, path = self.fs_path(rel)
        if self.remote:
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(temporary_name(target.name))
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, rel: str, text: str) -> None:
        self.write_bytes(rel, text.encode("utf-8"))

    def write_json(self, rel: str, value: object) -> None:
        self.write_text(rel, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")

    def write_table(self, rel: str, table: pa.Table) -> None:
        """Write Parquet whose bytes depend only on the table's content, not on its chunks."""
        buffer = io.BytesIO()
        pq.write_table(table.combine_chunks(), buffer, compression="zstd", row_group_size=1 << 17)
        self.write_bytes(rel, buffer.getvalue())

    def delete(self, rel: str) -> None:
        """Remove a file or a whole folder. Do nothing if it does not exist."""
        filesystem, path = self.fs_path(rel)
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.File:
            filesystem.delete_file(path)
        elif kind == pafs.FileType.Directory:
            filesystem.delete_dir(path)

    @contextlib.contextmanager
    def local_dir(self, rel: str = "") -> Iterator[Path]:
        """Yield a local folder with this folder's content: itself, or a temporary copy of a remote one."""
        filesystem, path = self.fs_path(rel)
        if not self.remote:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="dealrec-") as folder:
            pafs.copy_files(path, folder, source_filesystem=filesystem)
            yield Path(folder)

    def upload_dir(self, local: str | Path, rel: str = "") -> None:
        """Copy the files of a local folder below `rel` in name order, writing each atomically."""
        root = Path(local)
        for file in sorted(entry for entry in root.rglob("*") if entry.is_file()):
            name = file.relative_to(root).as_posix()
            self.write_bytes(f"{rel}/{name}" if rel else name, file.read_bytes())


def temporary_name(name: str) -> str:
    """Return a name in the same folder as `name` that no listing shows and no other writer uses."""
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"


def is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")
