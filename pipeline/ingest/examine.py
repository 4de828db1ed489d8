"""Check what the values of a log mean: refuse those that would mislead, warn about those that may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from pipeline.engine.wording import counted
from pipeline.ingest.ingest_spec import IngestSpec
from pipeline.ingest.log_survey import LogSurvey, are_numbers
from pipeline.ingest.reading import LogReader, Piece
from pipeline.ingest.statistics_record import ValueFindings
from pipeline.ingest.values.locate import first_row
from pipeline.ingest.values.missing import is_mark, looks_missing
from pipeline.ingest.values.spelling import CASE, FRACTION, INVISIBLE, ZEROS, Twins, mismatch, twins
from pipeline.ingest.values.time_checks import StandIn, stand_ins, two_units
from pipeline.ingest.values.time_facts import bin_of, unit_name
from pipeline.ingest.values.times import FLOAT32_EXACT
from pipeline.ingest.values.title_checks import (
    Spread,
    count_titles,
    quoted,
    several_titles,
    some_items,
    spread_of,
    worth_a_look,
)
from pipeline.ingest.vocabulary import item_titles

_SHOWN = 3
#: A text that looks missing counts as missing if it has this many times the rows of the other ids.
_FAR_ABOVE = 5
#: Ids that differ only in case are worth a warning from this share of all ids.
_CASE_SHARE = 0.01
#: This many items with one title, and this share of all items, are worth a warning.
_SHARED, _SHARED_SHARE = 5, 0.05
_DOTTED = r"^\d+\.\d*[1-9]\d*$"


@dataclass
class Findings:
    """What an examination found: warnings for the user, and counts for statistics.json."""

    warnings: list[str] = field(default_factory=list)
    statistics: ValueFindings = field(default_factory=ValueFindings)


@dataclass(frozen=True)
class Examination:
    """A log that was surveyed, with what is needed to look at it again.

    Attributes
    ----------
    catalogue : item, title; None if titles come from the log.
    tasks, reader : what finds a row of the files again.
    title_counts : a function that yields `count_titles` of some items for each block of the normalised log.
    """

    spec: IngestSpec
    survey: LogSurvey
    catalogue: pa.Table | None
    tasks: Sequence[Sequence[Piece]]
    reader: LogReader
    title_counts: Callable[[pa.Array], Iterable[pa.Table]]

    def findings(self) -> Findings:
        """Return the warnings and counts.

        Raises `UserError` with the place of a value that is not what it seems, and the remedy.
        """
        found = Findings()
        self._times(found)
        self._missing_ids(found)
        self._spellings(found)
        self._titles(found)
        survey = self.survey
        if survey.padded_ids:
            found.statistics["padded_ids"] = survey.padded_ids
            found.warnings.append(
                f"{counted(survey.padded_ids, 'interaction has', 'interactions have')} blanks around the user or item "
                "id. The blanks are ignored."
            )
        return found

    def _where(self, role: str, value: str | float) -> str:
        return first_row(self.tasks, self.reader, role, lambda values: pc.equal(values, value))

    def _times(self, found: Findings) -> None:
        facts, style = self.survey.times, self.reader.style
        if style is None or not facts.rows:
            return
        if style.kind == "number":
            units = two_units(facts)
            if units is not None:
                raise self._two_units(*units)
            if style.dtype in (pa.float16(), pa.float32()) and facts.high > FLOAT32_EXACT:
                found.warnings.append(
                    f"The timestamps are stored as float{style.dtype.bit_width}, which rounds times since 1970 to "
                    "minutes. The order within minutes is lost. Export them again from their source as integers."
                )
        for stand_in in stand_ins(facts, style.kind != "number"):
            found.statistics.setdefault("unknown_times", {})[_time(stand_in.value, style.kind)] = stand_in.rows
            found.warnings.append(_unknown_time(stand_in, facts.rows, style.kind))

    def _two_units(self, low: int, high: int) -> UserError:
        counts = self.survey.times.bins
        places = [
            first_row(self.tasks, self.reader, "timestamp", partial(_in_bin, place=place), with_value=True)
            for place in (low, high)
        ]
        names = [unit_name(low), unit_name(high)]
        return UserError(
            f"The times are in two units: {places[0]}, which reads as {names[0]} ({counted(int(counts[low]), 'row')}), "
            f"but {places[1]}, which reads as {names[1]} ({counted(int(counts[high]), 'row')}).",
            "Convert all times of the log to one unit.",
        )

    def _missing_ids(self, found: Findings) -> None:
        if self._none_is_missing():
            return
        survey = self.survey
        items = survey.items.filter(looks_missing(survey.items["item"].combine_chunks()))
        of_items = dict(zip(items["item"].to_pylist(), items["count"].to_pylist(), strict=True))
        for role, words, numeric, ids in (
            ("user", survey.missing_users, survey.numeric_users, survey.users),
            ("item", of_items, bool(of_items) and are_numbers(_joined(survey.items["item"])), len(survey.items)),
        ):
            others = (survey.rows[0] - sum(words.values())) / max(1, ids - len(words))
            for word, rows in sorted(words.items()):
                share = f"{rows:,} of {counted(survey.rows[0], 'interaction')} {_have(rows)} the {role} '{word}'"
                why = _why_missing(word, role, numeric, rows > _FAR_ABOVE * others)
                if why and self.spec.null_values is None:
                    raise UserError(
                        f"{share}, {why}. It reads as a missing value (first at {self._where(role, word)}).",
                        f"Set data.null_values: ['{word}'] and data.missing_id: drop to leave these interactions out, "
                        f"or data.null_values: [] if '{word}' is the id of {_article(role)}.",
                    )
                found.warnings.append(
                    f"{share}. It is read as an id. If it stands for a missing value, set data.null_values: "
                    f"{self._with_named(word)} and data.missing_id: drop."
                )

    def _none_is_missing(self) -> bool:
        """Return whether the user has declared that no text stands for a missing value."""
        return self.spec.null_values is not None and not self.spec.null_values

    def _with_named(self, word: str) -> str:
        """Return `data.null_values` with one more text, as the config would write it."""
        return "[" + ", ".join(f"'{value}'" for value in (*(self.spec.null_values or ()), word)) + "]"

    def _spellings(self, found: Findings) -> None:
        for role, ids in (("user", self.survey.some_users), ("item", _joined(self.survey.items["item"]))):
            for pair in twins(ids):
                shown = ", ".join(f"{first!r} and {second!r}" for first, second in pair.pairs)
                what = f"{pair.count:,} of {pair.of:,} {role} ids {_have(pair.count)} two spellings that differ in "
                what += f"{pair.difference.name}: {shown}"
                if _is_one_id(pair, ids):
                    first, second = pair.pairs[0]
                    raise UserError(
                        f"{what} (first at {self._where(role, first)} and at {self._where(role, second)}).",
                        f"Use one spelling of each {role} id in all files.",
                    )
                if pair.difference is not CASE or pair.count >= _CASE_SHARE * pair.of:
                    found.warnings.append(f"{what}. They count as different {role}s.")

    def _titles(self, found: Findings) -> None:
        if self.catalogue is None:
            items, key = self.survey.items, f"data.interactions (column '{self.reader.roles['title']}')"
            repeated = int(pc.sum(pc.greater(items["count"], 1)).as_py() or 0)
        else:
            items, key = item_titles(self.catalogue), "data.items"
            counts = self.catalogue.group_by("item").aggregate([([], "count_all")])
            repeated = int(pc.sum(pc.greater(counts["count_all"], 1)).as_py() or 0)
            items = items.drop_columns("count").join(counts, "item").rename_columns([*items.column_names])
            why = catalogue_mismatch(self.survey.items, self.catalogue)
            if why:
                found.warnings.append(f"Some items of the log are not in the catalogue. {why}")
        several = several_titles(items)
        # Few items of a catalogue have a second row, and most of those have it for a second title.
        if worth_a_look(len(several), repeated, len(items), 0.1 if self.catalogue is None else 0.5):
            spread = self._spread(some_items(several))
            if spread.headlines:
                raise _no_catalogue(key, len(several), repeated, spread)
        if len(several):
            examples = several.slice(0, _SHOWN).select(["item", "title", "other"]).to_pylist()
            shown = "; ".join(f"{row['item']}: {quoted([row['title'], row['other']])}" for row in examples)
            found.statistics["items_with_several_titles"] = len(several)
            found.warnings.append(
                f"{len(several):,} of {counted(len(items), 'item')} {_have(len(several))} several titles in {key}. The "
                f"alphabetically first is used ({shown}). Give each item one title."
            )
        self._missing_titles(items, key, found)
        counts = pc.value_counts(_joined(items["title"].drop_null()))
        most = pa.table({"title": counts.field(0), "items": counts.field(1)}).sort_by(
            [("items", "descending"), ("title", "ascending")]
        )
        if len(most) and most["items"][0].as_py() >= max(_SHARED, _SHARED_SHARE * len(items)):
            title, count = most["title"][0].as_py(), most["items"][0].as_py()
            found.warnings.append(
                f"{count:,} of {len(items):,} items have the title {quoted([title])} in {key}, so they cannot be "
                f"told apart. If it stands for a missing title, set data.null_values: {self._with_named(title)} and "
                "data.missing_title: drop."
            )

    def _spread(self, chosen: pa.Array) -> Spread:
        if self.catalogue is not None:
            return spread_of([count_titles(self.catalogue, chosen)])
        return spread_of(self.title_counts(chosen))

    def _missing_titles(self, items: pa.Table, key: str, found: Findings) -> None:
        if self._none_is_missing():
            return
        named = items.filter(looks_missing(_joined(items["title"])))
        for entry in sorted(pc.value_counts(_joined(named["title"])).to_pylist(), key=lambda entry: entry["values"]):
            title, count = entry["values"], entry["counts"]
            shown = named.filter(pc.equal(named["title"], title)).sort_by("item")["item"].slice(0, _SHOWN).to_pylist()
            if (count > 1 or is_mark(title)) and self.spec.null_values is None:
                some = ", ".join(shown) + (", ..." if count > _SHOWN else "")
                have = counted(count, "item has", "items have")
                raise UserError(
                    f"{self.spec.items or self.spec.interactions}: {have} the title '{title}', which reads as a "
                    f"missing title ({some}).",
                    f"Set data.null_values: ['{title}'] to treat it as a missing title (data.missing_title says what "
                    "follows), or data.null_values: [] if it is a real one.",
                )
            who = f"{count:,} items have" if count > 1 else f"Item {shown[0]} has"
            found.warnings.append(
                f"{who} the title '{title}' in {key}. It is read as a title. If it stands for a missing one, "
                f"set data.null_values: {self._with_named(title)}."
            )


def catalogue_mismatch(log_items: pa.Table, catalogue: pa.Table | None) -> str:
    """Return why items of the log have no title in the catalogue if spelling is the reason, else ""."""
    if catalogue is None:
        return ""
    titled = item_titles(catalogue)
    known = _joined(titled.filter(pc.is_valid(titled["title"]))["item"])
    asked = _joined(log_items["item"])
    missing = asked.filter(pc.invert(pc.is_in(asked, value_set=known)))
    return mismatch(missing, known) if len(missing) and len(known) else ""


def _joined(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _in_bin(times: pa.Array, place: int) -> pa.Array:
    return pa.array(bin_of(times.to_numpy(zero_copy_only=False)) == place)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _article(role: str) -> str:
    return "an item" if role == "item" else "a user"


def _why_missing(word: str, role: str, numeric: bool, many: bool) -> str:
    if is_mark(word):
        return "a spelling that only missing values have"
    if numeric:
        return f"but all other {role} ids are numbers"
    return f"more than {_FAR_ABOVE} times as many as other {role}s" if many else ""


def _is_one_id(pair: Twins, ids: pa.Array) -> bool:
    """Return whether these spellings can only belong to one id, judging by the other ids."""
    if pair.difference is INVISIBLE:
        return True
    if pair.difference is FRACTION:
        return not pc.any(pc.match_substring_regex(ids, _DOTTED)).as_py()
    return pair.difference is ZEROS and 2 * pair.count >= pair.marked


def _no_catalogue(key: str, several: int, repeated: int, spread: Spread) -> UserError:
    return UserError(
        f"The titles in {key} are not titles of items: {several:,} of {repeated:,} items with two or more rows have "
        f"several. A sample of {counted(spread.items, 'item')} has {counted(spread.titles, 'different title')} in "
        f"{counted(spread.rows, 'row')}, as headlines of reviews do. Item {spread.example} has {quoted(spread.shown)}.",
        "Set data.items to a catalogue with one title per item, or data.columns.title to the column of item titles.",
    )


def _time(value: float, kind: str) -> str:
    if kind == "number":
        return f"{value:.15g}"
    return str(np.datetime64(int(value), "s")).replace("T00:00:00", "")


def _unknown_time(stand_in: StandIn, rows: int, kind: str) -> str:
    end = "first" if stand_in.first else "last"
    return (
        f"{stand_in.rows:,} of {rows:,} interactions ({stand_in.rows / rows:.1%}) {_have(stand_in.rows)} the time "
        f"{_time(stand_in.value, kind)}, far from all others. Logs write such a value for an unknown time. It comes "
        f"{end} in the user's history. Remove these rows, or correct their times."
    )


def say_columns(roles: Mapping[str, str], others: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield which columns were taken, and which others could have been."""
    yield "columns of the log: " + ", ".join(f"{role} '{column}'" for role, column in roles.items())
    for role, column in others:
        yield f"column '{column}' could also be the {role}; set data.columns.{role} to use it"
