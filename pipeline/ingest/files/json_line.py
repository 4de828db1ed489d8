"""Parse one line of a JSON Lines file, and recognise what is written in its place by mistake."""

from __future__ import annotations

import ast
import json

from cluster.errors import UserError
from pipeline.ingest.files.datafile import DataFile

_OBJECT = 'Write one object per line, such as {"user_id": 1, "item_id": 7, "timestamp": 0}'
_FROM_ARRAY = (
    "Write one object per line: "
    """python -c "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]" < FILE > log.jsonl"""
)
_FROM_OBJECTS = "Write one object per line, as jq -c . FILE > log.jsonl does"


def parse_json_line(file: DataFile, number: int, line: str | bytes) -> dict[str, object]:
    """Parse one line as an object.

    A line that is a Python dict, as in UCSD's older files, is read with `ast.literal_eval`, which runs no code.
    Raises `UserError` naming the line if it is neither.
    """
    try:
        value = json.loads(line)
    except ValueError as error:
        found = _python_dict(line)
        if found is not None:
            return found
        raise _fault(file, number, line, error) from error
    if not isinstance(value, dict):
        if isinstance(value, list) and number == 1:
            raise UserError(f"{file.name} is one JSON array.", f"{_FROM_ARRAY}.")
        raise UserError(f"{file.name}, line {number} is not a JSON object.", f"{_OBJECT}.")
    return value


def is_python(line: str) -> bool:
    """Return whether a line is a Python dict rather than JSON."""
    try:
        json.loads(line)
    except ValueError:
        return _python_dict(line) is not None
    return False


def check_rows_of_objects(file: DataFile, first: str) -> None:
    """Raise `UserError` for a table stored column by column in one object.

    `DataFrame.to_json` writes it that way by default.
    """
    try:
        row = json.loads(first) if first else {}
    except ValueError:
        return
    columns = list(row.values())
    if len(columns) > 1 and all(isinstance(column, dict) and list(column)[:1] == ["0"] for column in columns):
        raise UserError(
            f"{file.name} is one JSON object that holds whole columns.",
            f"{_OBJECT}. In pandas: to_json(..., orient='records', lines=True).",
        )


def _python_dict(line: str | bytes) -> dict[str, object] | None:
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        value = ast.literal_eval(text.strip()) if text.lstrip("\ufeff \t").startswith("{") else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else None


def _fault(file: DataFile, number: int, line: str | bytes, error: ValueError) -> UserError:
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    start = text.strip()[:3]
    if number == 1 and start.startswith("["):
        return UserError(f"{file.name} is one JSON array over several lines.", f"{_FROM_ARRAY}.")
    if number == 1 and isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip()):
        return UserError(
            f"{file.name}, line 1 ends inside an object.",
            f"{_FROM_OBJECTS}. If each object is on one line, the file is truncated.",
        )
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return UserError(f"{file.name}, line {number} holds more than one JSON value.", f"{_FROM_OBJECTS}.")
    if start[:2] in ("{'", "{u"):
        return UserError(
            f"{file.name}, line {number} is a Python dict that is broken or holds more than plain values.",
            "Write it as JSON, with null for missing values.",
        )
    return UserError(
        f"{file.name}, line {number} is not valid JSON ({error}).",
        "Correct or remove the line. The file may be truncated there.",
    )
