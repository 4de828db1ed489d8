"""The live files of an Iceberg table, by its newest metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, PyArrowFile, PyArrowFileIO, schema_to_pyarrow
from pyiceberg.manifest import FileFormat
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import DataScan, FileScanTask
from pyiceberg.table.metadata import TableMetadata

from cluster.digest import digest
from cluster.errors import UserError
from cluster.storage import open_filesystem
from pipeline.ingest.files.datafile import DataFile, Place

_METADATA = ".metadata.json"
_NUMBER = re.compile(r"v?(\d+)[.-]")


@dataclass(frozen=True)
class _Root:
    """Where a table's folder is, and where its metadata says it is.

    A table that was moved or copied still names its files by their old location. They are found below its folder all
    the same.
    """

    filesystem: pafs.FileSystem
    path: str
    scheme: str
    location: str

    def locate(self, uri: str) -> tuple[pafs.FileSystem, str, str]:
        """Return filesystem, path in it and scheme of a file that the metadata names."""
        own, file = f"{_plain(self.location).rstrip('/')}/", _plain(uri)
        if file.startswith(own):
            return self.filesystem, f"{self.path}/{file.removeprefix(own)}", self.scheme
        filesystem, path = open_filesystem(file)
        return filesystem, path, f"{file.split('://')[0]}://" if "://" in file else ""


def _plain(uri: str) -> str:
    """Return a URI with one spelling of its scheme; a local path without a scheme."""
    return re.sub(r"^s3[an]://", "s3://", re.sub(r"^file:/+", "/", uri))


class _TableIO(PyArrowFileIO):
    """Opens a table's files through the filesystem in which the table was found."""

    def __init__(self, root: _Root) -> None:
        super().__init__({})
        self._root = root

    def new_input(self, location: str) -> PyArrowFile:
        filesystem, path, _ = self._root.locate(location)
        return PyArrowFile(location, path, filesystem)


@dataclass(frozen=True)
class IcebergRows:
    """The live rows of one data file: pyiceberg applies deletes, renamed columns, types and partition values.

    It holds the requested columns of one data file in memory at a time.
    """

    root: _Root
    metadata: TableMetadata
    task: FileScanTask
    source: str

    @property
    def schema(self) -> pa.Schema:
        return schema_to_pyarrow(self.metadata.schema(), include_field_ids=False)

    @property
    def mark(self) -> str:
        """A digest of the files that hold the deletes and of the schema used to read the file."""
        deletes = sorted(file.file_path for file in self.task.delete_files)
        return digest("\n".join([str(self.metadata.schema()), *deletes]).encode())

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        scan = ArrowScan(self.metadata, _TableIO(self.root), self.metadata.schema().select(*columns), AlwaysTrue())
        try:
            for batch in scan.to_record_batches([self.task]):
                yield pa.Table.from_batches([batch]).select(list(columns))
        except (ValueError, NotImplementedError) as error:
            raise OSError(str(error)) from error


def iceberg_files(place: Place, root: str, found: Sequence[pafs.FileInfo]) -> list[DataFile]:
    """Return the files of the current snapshot of an Iceberg table.

    The newest metadata file is used, or the one that the user named. Raises `UserError` if two are equally new, and for
    tables that need a catalogue or a newer reader.
    """
    name = f"{place.scheme}{root}"
    path = _metadata_file(place, root, found)
    try:
        metadata = _read_metadata(place.filesystem, path)
        here = _Root(place.filesystem, root, place.scheme, metadata.location)
        tasks = list(DataScan(metadata, _TableIO(here)).plan_files())
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UserError(
            f"{place.key}: the Iceberg table {name} cannot be read through {path.rsplit('/', 1)[-1]}: {reason}.",
            "Repair the table (rewrite_data_files removes its deletes), or write it as plain Parquet into another "
            f'folder: spark.read.format("iceberg").load("{name}").write.parquet("...").',
        ) from error
    source = f"the Iceberg table {name} at {path.rsplit('/', 1)[-1]}"
    files = []
    for task in tasks:
        if task.file.file_format != FileFormat.PARQUET:
            raise UserError(
                f"{place.key}: the Iceberg table {name} has data in {task.file.file_format.name}, but only Parquet is "
                "supported.",
                "Write it as plain Parquet into another folder.",
            )
        filesystem, file, scheme = here.locate(task.file.file_path)
        rows = IcebergRows(here, metadata, task, source)
        files.append(
            DataFile(filesystem, file, f"{scheme}{file}", "parquet", None, task.file.file_size_in_bytes, rows=rows)
        )
    return sorted(files, key=lambda file: file.path)


def _read_metadata(filesystem: pafs.FileSystem, path: str) -> TableMetadata:
    return FromInputFile.table_metadata(PyArrowFile(path, path, filesystem))


def _metadata_file(place: Place, root: str, found: Sequence[pafs.FileInfo]) -> str:
    """Return the metadata file that the user named, or the one with the highest number."""
    named = [info.path for info in found if info.path.endswith(_METADATA)]
    if len(named) == 1:
        return named[0]
    infos = place.filesystem.get_file_info(pafs.FileSelector(f"{root}/metadata"))
    numbers: dict[int, list[str]] = {}
    for info in infos:
        number = _NUMBER.match(info.base_name)
        if info.base_name.endswith(_METADATA) and number:
            numbers.setdefault(int(number[1]), []).append(info.path)
    newest = numbers[max(numbers)] if numbers else []
    if len(newest) != 1:
        shown = ", ".join(sorted(path.rsplit("/", 1)[-1] for path in newest)) or "none has a number"
        raise UserError(
            f"{place.key}: the metadata folder of the Iceberg table {place.scheme}{root} does not show which of its "
            f"files is current ({shown}).",
            f"Ask the catalogue for the table's metadata location, and give that file as {place.key}.",
        )
    return newest[0]
