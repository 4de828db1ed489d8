"""The house rules that a machine can check: names, sizes, types and English of the project's own source."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

from tests.house import PACKAGES, class_names, comments, docstrings, room_of, sources

#: A docstring of a function is a sentence; these words begin a fragment.
FRAGMENT = re.compile(
    r"(As|At|By|For|From|How|In|Of|On|Than|That|To|What|Where|Whether|Which|Whom|Whose|With)\b", re.IGNORECASE
)
#: Openings that make a comment a fragment; unlike a docstring, a comment may open with "In a job, ...".
LOOSE = re.compile(r"(As|Of|Than|That|Whom|Whose|By which|In which|For which|With which)\b")
#: Words that a native engineer does not write.
STUMBLES = re.compile(r"\b(anew|reckons?|the very|which cannot be|dearest|dear|Whom)\b")
MOST_ANY, MOST_LINES, MEDIAN_LINES, LARGEST_ROOM = 6.0, 400, 170, 0.25


def test_no_two_modules_share_a_name() -> None:
    names = Counter(path.stem for path in sources(*PACKAGES, "benchmarks") if not path.stem.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_classes_share_a_name() -> None:
    names = Counter(name for text in sources(*PACKAGES, "benchmarks").values() for name in class_names(text))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_room_holds_more_than_a_quarter_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for path, text in sources(*PACKAGES).items():
        lines[room_of(path)] += text.count("\n")
    assert {room: count for room, count in lines.items() if count > LARGEST_ROOM * lines.total()} == {}


def test_modules_are_short() -> None:
    lengths = {path: text.count("\n") for path, text in sources(*PACKAGES).items() if path.stem != "__init__"}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}
    assert median(lengths.values()) < MEDIAN_LINES


def test_types_say_what_travels_between_modules() -> None:
    texts = sources(*PACKAGES).values()
    counts = [(len(re.findall(r"\bAny\b", text)), text.count("\n")) for text in texts]
    number, lines = (sum(column) for column in zip(*counts, strict=True))
    assert 1000 * number / lines <= MOST_ANY


def test_docstrings_of_functions_are_sentences() -> None:
    fragments = [
        f"{path}: {text.splitlines()[0]}"
        for path, source in sources(*PACKAGES, "benchmarks").items()
        for kind, text in docstrings(source)
        if kind == "function" and FRAGMENT.match(text)
    ]
    assert fragments == []


def test_comments_are_sentences() -> None:
    fragments = [
        f"{path}: {text}"
        for path, source in sources(*PACKAGES, "benchmarks").items()
        for text in comments(source)
        if LOOSE.match(text)
    ]
    assert fragments == []


def test_nobody_stumbles_over_a_word() -> None:
    found = [
        f"{path}: {line.strip()}"
        for path, source in sources(*PACKAGES, "benchmarks", "examples").items()
        for line in source.splitlines()
        if STUMBLES.search(line)
    ]
    assert found == []
