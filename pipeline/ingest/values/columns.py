"""Find which column of the input plays which role."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from cluster.errors import UserError
from pipeline.ingest.files.headers import Header, check_same_kinds
from pipeline.ingest.ingest_spec import IngestSpec

#: Usual names of each role, most specific first, compared without case, spaces, hyphens and underscores.
#: `parent_asin` comes before `asin` because it is the key of Amazon's catalogues.
_USUAL: dict[str, tuple[str, ...]] = {
    "user": (
        "userid", "user", "uid", "reviewerid", "customerid", "visitorid", "memberid", "accountid", "username",
    ),
    "item": (
        "itemid", "item", "iid", "parentasin", "asin", "movieid", "productid", "bookid", "gameid", "trackid",
        "songid", "videoid", "articleid", "newsid", "businessid", "isbn", "sku",
    ),
    "timestamp": ("timestamp", "ts", "unixreviewtime", "datetime", "time", "date", "createdat", "eventtime"),
    "position": ("position", "pos", "step"),
    "rating": ("rating", "ratings", "stars", "overall", "score"),
    "split": ("split", "subset"),
    "title": (
        "title", "movietitle", "itemtitle", "producttitle", "booktitle", "name", "itemname", "productname",
    ),
}  # fmt: skip

#: The separator of each format, for messages.
_SEPARATORS = {"csv": "commas", "tsv": "tabs", "recbole": "tabs"}
_NUMBER = re.compile(r"-?\d+(\.\d*)?")

Roles = Mapping[str, str]


def resolve_log(headers: Sequence[Header], spec: IngestSpec) -> Roles:
    """Return the column of each role that this ingest reads from the log.

    Raises `UserError` naming the file, its columns and the key `data.columns.<role>` if a required role is not found,
    or a configured column does not exist.
    """
    needed = {"user", "item"}
    needed |= {"timestamp"} if spec.split == "global_time" else set()
    needed |= {"split"} if spec.split == "column" else set()
    needed |= {"rating"} if spec.min_rating is not None else set()
    needed |= {"title"} if spec.items is None else set()
    positioned = find_column(headers[0], "position", spec.columns.get("position"), in_path=False) is not None
    roles: dict[str, str] = {}
    for role in ("user", "item", "timestamp", "position", "rating", "split", "title"):
        if role == "title" and spec.items is not None:
            continue
        # A time in the path is coarser than a position in the file, so it is used only if it is needed.
        in_path = role in needed or (role == "timestamp" and not positioned)
        column = find_column(headers[0], role, spec.columns.get(role), in_path)
        if column is not None and (role in needed or role in ("timestamp", "position")):
            roles[role] = column
        elif role in needed:
            raise _missing(headers, role, spec)
    if not {"timestamp", "position"} & set(roles):
        raise UserError(
            f"{headers[0].file.name} has neither a timestamp nor a position column, so the order of a user's "
            f"interactions is unknown. It has {_listed(headers[0])}.",
            "Set data.columns.timestamp or data.columns.position.",
        )
    _check_apart(roles)
    _check_optional(headers, spec, roles)
    check_same_kinds(headers, list(roles.values()))
    return roles


def _check_apart(roles: Roles) -> None:
    """Raise `UserError` for a column that plays two roles, except for an item id that is also the title."""
    seen: dict[str, str] = {}
    for role, column in roles.items():
        if column in seen and {role, seen[column]} != {"item", "title"}:
            raise UserError(
                f"data.columns.{role} and data.columns.{seen[column]} are the same column, '{column}'.",
                "Correct one of them.",
            )
        seen[column] = role


def _check_optional(headers: Sequence[Header], spec: IngestSpec, roles: Roles) -> None:
    """Raise `UserError` for times or positions that the first file lacks and another has.

    Ingest would leave them out.
    """
    for header, role in itertools.product(headers[1:], ("timestamp", "position")):
        if role not in roles:
            column = find_column(header, role, spec.columns.get(role), in_path=False)
            if column is not None:
                raise UserError(
                    f"The files have different columns: {header.file.name} has the {role} '{column}', and "
                    f"{headers[0].file.name} has none.",
                    "Give files with the same columns.",
                )


def resolve_catalogue(headers: Sequence[Header], spec: IngestSpec) -> Roles:
    """Return the item and title columns of the catalogue.

    `data.columns.item` names the log's column. If the catalogue has none of that name, its usual names are tried.
    """
    roles: dict[str, str] = {}
    for role in ("item", "title"):
        wanted = spec.columns.get(role)
        if role == "item" and wanted is not None and _actual(headers[0], wanted) is None:
            wanted = None
        column = find_column(headers[0], role, wanted)
        if column is None:
            raise _missing_in_catalogue(headers[0], role)
        roles[role] = column
    check_same_kinds(headers, list(roles.values()))
    return roles


def find_column(header: Header, role: str, wanted: str | None, in_path: bool = True) -> str | None:
    """Return the column of a role: the configured one, or the first usual name, or None.

    Columns in the file come before those that its path gives, which are only considered with `in_path`.
    Raises `UserError` if the configured column does not exist.
    """
    if wanted is not None:
        column = _actual(header, wanted)
        if column is None:
            raise UserError(
                f"{header.file.name} has no column '{wanted}' (data.columns.{role}). It has {_listed(header)}.",
                f"Correct data.columns.{role}.",
            )
        return column
    given = [column for column in header.file.given if column not in header.file.unasked]
    own = [column for column in header.kinds if column not in header.file.given]
    return _usual(header, role, own) or (_usual(header, role, given) if in_path else None)


def _usual(header: Header, role: str, columns: Sequence[str]) -> str | None:
    for usual in _USUAL[role]:
        matches = [column for column in columns if _plain(_bare(header, column)) == usual]
        if len(matches) > 1:
            raise UserError(
                f"{header.file.name}: '{matches[0]}' and '{matches[1]}' could each be the {role}.",
                f"Set data.columns.{role}.",
            )
        if matches:
            return matches[0]
    return None


def also_usual(header: Header, roles: Roles, spec: IngestSpec) -> list[tuple[str, str]]:
    """Return (role, column) of columns whose names would also suit a role recognised by name."""
    taken = set(roles.values())
    plain = {column: _plain(_bare(header, column)) for column in header.kinds if column not in taken}
    recognised = [role for role in roles if spec.columns.get(role) is None]
    return [(role, column) for role in recognised for column, name in plain.items() if name in _USUAL[role]]


def _actual(header: Header, wanted: str) -> str | None:
    """Return the column by the name that the user gave, with or without RecBole's type suffix."""
    return next((column for column in header.kinds if wanted in (column, _bare(header, column))), None)


def _bare(header: Header, column: str) -> str:
    """Return the name without RecBole's type suffix, as in `name:type`."""
    return column.rsplit(":", 1)[0] if header.file.format == "recbole" else column


def _plain(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter not in " -_")


def _listed(header: Header) -> str:
    names = (column for column in header.kinds if column not in header.file.unasked)
    return ", ".join(_bare(header, column) for column in names) or "none"


def _missing(headers: Sequence[Header], role: str, spec: IngestSpec) -> UserError:
    first = headers[0]
    why = {
        "timestamp": ", but data.split: global_time needs one",
        "rating": ", but data.min_rating needs one",
        "split": ", but data.split: column needs one",
        "title": ", but the LLM reads titles, so every item needs one",
    }.get(role, "")
    what = f"{first.file.name} has no {role} column{why}. It has {_listed(first)}."
    found = ((header, find_column(header, role, spec.columns.get(role))) for header in headers[1:])
    other = next((f"{header.file.name} has '{column}'" for header, column in found if column is not None), None)
    if other is not None:
        return UserError(f"{what} But {other}.", "Name only the files of the log, by their path or a pattern.")
    remedy = f"Set data.columns.{role} to the column that holds it"
    remedy += ", or data.items to a catalogue with titles." if role == "title" else "."
    return _no_header(first) or UserError(what, remedy)


def _missing_in_catalogue(header: Header, role: str) -> UserError:
    remedy = "Set data.columns.title to the column that holds it."
    if role == "item":  # data.columns.item names the log's column, which exists
        remedy = "Rename its column of item ids to item_id, or to the name that the log uses."
    what = f"{header.file.name}, the catalogue, has no {role} column. It has {_listed(header)}."
    return _no_header(header) or UserError(what, remedy)


def _no_header(header: Header) -> UserError | None:
    """Return the error for a table whose first line does not hold column names, or is separated otherwise."""
    if header.file.format not in _SEPARATORS:
        return None
    names = [_bare(header, column) for column in header.kinds if column not in header.file.given]
    own = _SEPARATORS[header.file.format]
    if len(names) == 1:
        for separator, name in (("::", "'::'"), ("\t", "tabs"), (";", "semicolons"), ("|", "'|'"), (",", "commas")):
            if separator in names[0]:
                return UserError(
                    f"{header.file.name} has one column, '{names[0]}'. Its fields seem to be separated by {name}.",
                    f"Write it with {own} and column names in its first line. A tab-separated table is a .tsv.",
                )
    if any(_NUMBER.fullmatch(name) for name in names):
        return UserError(
            f"{header.file.name} seems to have no column names: its first line is {', '.join(names)}.",
            "Add a first line with the column names, such as user_id, item_id, timestamp.",
        )
    return None
