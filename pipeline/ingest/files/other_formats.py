"""Files that are not read: what they are, and how to convert them."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.fs as pafs

from cluster.errors import UserError
from pipeline.ingest.files.datafile import Place

ACCEPTED = "Give Parquet, CSV, TSV, JSON Lines or RecBole atomic files (.inter, .item)"

_HEAD = 4096


class OtherFormat(NamedTuple):
    """A format that is not read.

    Attributes
    ----------
    what : what a file of it is.
    remedy : how to convert it; `{file}` stands for its name.
    """

    what: str
    remedy: str


_ARCHIVE = OtherFormat("an archive", "Unpack it, and name the data files inside.")
_SPREADSHEET = OtherFormat(
    "a spreadsheet",
    "Format the id columns as text and save the sheet as CSV in UTF-8, or in pandas: "
    """pandas.read_excel("{file}", dtype=str).to_csv("log.csv", index=False).""",
)
_ARROW = OtherFormat("an Arrow file", 'Convert it in pandas: pandas.read_feather("{file}").to_parquet("log.parquet").')
_ORC = OtherFormat(
    "an ORC file",
    'Convert it in Python: pyarrow.parquet.write_table(pyarrow.orc.read_table("{file}"), "log.parquet").',
)
_AVRO = OtherFormat(
    "an Avro file", 'Convert it in Spark: spark.read.format("avro").load("{file}").write.parquet("log").'
)
_HDF = OtherFormat("an HDF5 file", 'Convert it in pandas: pandas.read_hdf("{file}").to_parquet("log.parquet").')
_SQLITE = OtherFormat(
    "a database", 'Export the table: sqlite3 -header -csv "{file}" "SELECT * FROM the_table" > log.csv.'
)
_ARRAYS = OtherFormat(
    "an array file", "Write its columns as a table, for example with pandas.DataFrame(...).to_parquet."
)
#: A text file whose extension does not tell how it is laid out.
_LAYOUT = OtherFormat("", "")

OTHER_FORMATS: dict[str, OtherFormat] = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"), _SPREADSHEET),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), _ARROW),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), _HDF),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), _SQLITE),
    **dict.fromkeys((".npz", ".npy", ".mat"), _ARRAYS),
    **dict.fromkeys((".dat", ".data", ".txt"), _LAYOUT),
    ".orc": _ORC,
    ".avro": _AVRO,
}

#: First bytes -> the format that they belong to.
_MAGIC = {
    b"PK\x03\x04": _ARCHIVE,
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE,
    b"Rar!": _ARCHIVE,
    b"ARROW1": _ARROW,
    b"ORC": _ORC,
    b"Obj\x01": _AVRO,
    b"\x89HDF": _HDF,
    b"SQLite format 3\x00": _SQLITE,
    b"\x93NUMPY": _ARRAYS,
}
#: Separator -> its name, and the `sed` expression that makes tabs of it; those of several characters come first.
_SEPARATORS = {
    "::": ("'::'", r"s/::/\t/g"),
    "\t": ("tabs", ""),
    "|": ("'|'", r"s/|/\t/g"),
    ";": ("semicolons", r"s/;/\t/g"),
    ",": ("commas", ""),
}


def unsupported(place: Place, info: pafs.FileInfo, suffix: str) -> UserError:
    """Return the error for a file that cannot be read: what it is by its extension or first bytes, and what to do."""
    name = place.scheme + info.path
    known = OTHER_FORMATS.get(suffix)
    if known is not None and known is not _LAYOUT:
        return UserError(f"{place.key}: {name} is {known.what} ({suffix}).", known.remedy.format(file=name))
    if not suffix:
        called = "no extension"
    elif known is None:
        called = f"an unknown extension '{suffix}'"
    else:
        called = f"the extension '{suffix}', which does not tell its format"
    found = _looked_at(_head(place, info), "FILE" if place.scheme else name, place.key)
    if found is None:
        return UserError(f"{place.key}: {name} has {called}.", f"{ACCEPTED}.")
    return UserError(f"{place.key}: {name} has {called}. Inside it is {found.what}.", found.remedy)


def _head(place: Place, info: pafs.FileInfo) -> bytes:
    try:
        with place.filesystem.open_input_stream(info.path, compression=None) as stream:
            return bytes(stream.read(_HEAD))
    except OSError:
        return b""


def _looked_at(head: bytes, name: str, key: str) -> OtherFormat | None:
    """Return what the first bytes of a file show; None if they show nothing."""
    if head.startswith(b"PAR1"):
        return OtherFormat("Parquet", "Rename it to .parquet.")
    for magic, known in _MAGIC.items():
        if head.startswith(magic):
            return OtherFormat(known.what, known.remedy.format(file=name))
    line = head.partition(b"\n")[0].decode("utf-8", "replace").strip("\r\ufeff")
    if not line or not line.replace("\t", "").isprintable():
        return None
    if line.startswith("{"):
        return OtherFormat("JSON Lines", "Rename it to .jsonl.")
    return next((_delimited(line, separator, name, key) for separator in _SEPARATORS if separator in line), None)


def _delimited(line: str, separator: str, name: str, key: str) -> OtherFormat:
    called, expression = _SEPARATORS[separator]
    what = f"text with fields separated by {called}"
    fields = line.split(separator)
    numbers = any(field.strip().replace(".", "", 1).isdigit() for field in fields)
    extension = "csv" if separator == "," else "tsv"
    if not numbers and not expression:
        return OtherFormat(what, f"Rename it to .{extension}.")
    rows = f"sed '{expression}' \"{name}\"" if expression else f'cat "{name}"'
    if not numbers:
        return OtherFormat(what, f"Convert it: {rows} > log.tsv.")
    usual = ("item_id", "title") if key == "data.items" else ("user_id", "item_id", "rating", "timestamp")
    columns = [*usual, *(f"column_{number}" for number in range(len(usual) + 1, len(fields) + 1))][: len(fields)]
    header = ("," if separator == "," else r"\t").join(columns)
    return OtherFormat(
        f"{what} without column names",
        "Convert it, with your own column names in the first command: "
        f"(printf '{header}\\n'; {rows}) > log.{extension}.",
    )
