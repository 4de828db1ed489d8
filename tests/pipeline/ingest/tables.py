"""Real Delta and Iceberg tables, written with their own libraries, for the tests of this package."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyroaring import BitMap

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377


def rows_of(count: int, start: int = 0) -> pa.Table:
    """Return user_id, item_id, timestamp and day of interactions that differ in their time."""
    numbers = range(start, start + count)
    return pa.table(
        {
            "user_id": [f"u{number % 5}" for number in numbers],
            "item_id": [f"i{number % 7}" for number in numbers],
            "timestamp": list(numbers),
            "day": [f"2024-01-0{1 + number % 3}" for number in numbers],
        }
    )


def strike_out(table: Path, rows: list[int], in_file: bool) -> None:
    """Delete rows of the last data file in a Delta log with a deletion vector, as Spark does.

    `deltalake` reads such vectors and writes none. The format is that of the Delta protocol.
    """
    log = table / "_delta_log"
    versions = sorted(log.glob("*.json"))
    add = [json.loads(line)["add"] for line in versions[-1].read_text().splitlines() if '"add"' in line][-1]
    bitmap = struct.pack("<Iqi", _MAGIC, 1, 0) + bytes(BitMap(rows).serialize())
    vector: dict[str, Any] = {"sizeInBytes": len(bitmap), "cardinality": len(rows)}
    if in_file:
        name = uuid.uuid4()
        blob = struct.pack(">bi", 1, len(bitmap)) + bitmap + struct.pack(">I", zlib.crc32(bitmap))
        (table / f"deletion_vector_{name}.bin").write_bytes(blob)
        vector |= {"storageType": "u", "pathOrInlineDv": _z85(name.bytes), "offset": 1}
    else:
        vector |= {"storageType": "i", "pathOrInlineDv": _z85(bitmap)}
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    actions = [
        {"protocol": protocol},
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add, "deletionVector": vector}},
    ]
    text = "".join(json.dumps(action) + "\n" for action in actions)
    (log / f"{len(versions):020d}.json").write_text(text)


def map_columns(table: Path, names: dict[str, str]) -> None:
    """Rename columns in a Delta log of one version; its files keep the old names (column mapping by name)."""
    version = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in version.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            for number, column in enumerate(schema["fields"], start=1):
                stored = column["name"]
                column["name"] = names.get(stored, stored)
                column["metadata"] = {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": stored,
                }
            action["metaData"]["schemaString"] = json.dumps(schema)
            action["metaData"]["configuration"] = {
                "delta.columnMapping.mode": "name",
                "delta.columnMapping.maxColumnId": str(len(schema["fields"])),
            }
    version.write_text("".join(json.dumps(action) + "\n" for action in actions))


def _z85(data: bytes) -> str:
    text = ""
    for begin in range(0, len(data), 4):
        value = int.from_bytes(data[begin : begin + 4].ljust(4, b"\0"), "big")
        digits = []
        for _ in range(5):
            value, digit = divmod(value, 85)
            digits.append(_Z85[digit])
        text += "".join(reversed(digits))
    return text
