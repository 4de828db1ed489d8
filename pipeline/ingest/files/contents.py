"""Look at the first bytes of a file: is it what its name says, and is it safe to read?"""

from __future__ import annotations

import contextlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

import pyarrow as pa

from cluster.errors import UserError
from pipeline.ingest.files.datafile import DataFile
from pipeline.ingest.files.sources import PICKLE_REMEDY

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEAD = 4096
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}

#: Protocols 0 and 1 have no magic number: a list, a dict or a global, then its memo entry or its arguments.
_OLD_PICKLE = re.compile(
    rb"\A(?:\([ldt]p\d+\n|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n(?:p\d+\n|\(|q)|[\]})]q\x00|ccopy_reg\n)"
)

#: The exceptions that a damaged or truncated file raises, whatever the library underneath.
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error, pa.ArrowException)


def open_payload(file: DataFile) -> IO[bytes]:
    """Open the decompressed bytes of a file as a stream."""
    raw = file.filesystem.open_input_stream(file.path, compression=None, buffer_size=1 << 20)
    if file.compression is None:
        return _as_io(raw)
    if file.compression == "xz":
        return _as_io(lzma.open(raw))
    return _as_io(pa.CompressedInputStream(raw, file.compression))


def _as_io(stream: object) -> IO[bytes]:
    """Return the stream, typed as the file object that Arrow's streams are."""
    return cast("IO[bytes]", stream)


@contextlib.contextmanager
def open_text(file: DataFile) -> Iterator[io.TextIOWrapper]:
    """Open a UTF-8 file as characters: line ends stay as they are, a byte order mark is dropped."""
    with open_payload(file) as stream:
        yield io.TextIOWrapper(io.BufferedReader(_Readable(stream)), "utf-8-sig", newline="")


class _Readable(io.RawIOBase):
    """A stream with the `readinto` that Python's text streams need and Arrow's lack."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


def is_blank(file: DataFile) -> bool:
    """Return whether a text file holds nothing but white space; False if it cannot be read."""
    if file.format == "parquet" or file.size > _HEAD:
        return False
    try:
        with open_payload(file) as stream:
            return not file.size or not bytes(stream.read(_HEAD + 1)).strip(b"\xef\xbb\xbf \t\r\n")
    except DAMAGE:
        return not file.size


def check_contents(file: DataFile) -> None:
    """Raise `UserError` if a file is empty, unreadable, a pickle, or not of the kind that its name says."""
    try:
        with file.filesystem.open_input_stream(file.path, compression=None) as raw:
            head = bytes(raw.read(_HEAD))
        if not head:
            raise UserError(f"{file.name} is empty (0 bytes).", "Remove it or write it again.")
        compression = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
        if compression != file.compression and not is_pickle(head):
            actual, named = compression or "not compressed", file.compression or "not compressed"
            raise UserError(f"{file.name} is {actual}, but its name says {named}.", "Rename it.")
        if compression:
            with open_payload(file) as stream:
                head = bytes(stream.read(_HEAD))
    except DAMAGE as error:
        raise damaged(file, error) from error
    if is_pickle(head):
        raise UserError(f"{file.name} is a pickle, although its name says otherwise.", PICKLE_REMEDY)
    parquet = head.startswith(b"PAR1")
    if parquet != (file.format == "parquet"):
        kind = "holds Parquet" if parquet else "is not a Parquet file"
        raise UserError(f"{file.name} {kind}.", "Rename it to the extension of its format.")
    if not parquet and b"\x00" in head:
        raise UserError(f"{file.name} is binary or UTF-16, not text in UTF-8.", "Save it as UTF-8 text.")


def is_pickle(head: bytes) -> bool:
    """Return whether bytes begin like a pickle of any protocol, a torch archive, or a compressed joblib dump."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if head.startswith(b"PK\x03\x04"):
        return b"data.pkl" in head or b"/byteorder" in head
    if head[:1] == b"\x78":
        try:
            return is_pickle(zlib.decompressobj().decompress(head, 64))
        except zlib.error:
            return False
    return _OLD_PICKLE.match(head) is not None


def damaged(file: DataFile, error: BaseException) -> UserError:
    """Return the error for a file that cannot be read to its end."""
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"{file.name} is not UTF-8.", "Save the file as UTF-8.")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{file.name} cannot be read: {reason.rstrip('.')}.",
        "It may be truncated or damaged, or you may lack permission: copy it again or correct its permissions.",
    )
