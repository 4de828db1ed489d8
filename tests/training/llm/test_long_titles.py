"""Titles that are too long for a prompt, and the part of them that is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from tests.tiny_llm import make_tokenizer
from training.llm.long_titles import LEAST_ROOM, beginning, cut_titles, title_lengths, title_room
from training.llm.prompts import PromptEncoder, clean_title, load_template


def encoder(titles: Sequence[str] = ("",), max_tokens: int = 256, bos: bool = False) -> PromptEncoder:
    return PromptEncoder(make_tokenizer(bos=bos), load_template("movies"), titles, 20, max_tokens)


def shown(titles: Sequence[str], max_tokens: int = 256, asked: int | None = None) -> list[str]:
    made = encoder(max_tokens=max_tokens)
    result = [clean_title(title) for title in titles]
    for cut in cut_titles(made, titles, title_room(made, asked)):
        assert cut.whole == result[cut.row]
        result[cut.row] = cut.shown
    return result


def test_a_long_title_is_cut_at_a_word_and_others_stay() -> None:
    long = "The man and a night in love " * 20
    found = shown(["Heat", long, "Fargo (1996)"])
    assert (found[0], found[2]) == ("Heat", "Fargo (1996)")
    assert long.startswith(f"{found[1]} ")
    # One more word does not fit.
    made = encoder()
    following = long[: long.index(" ", len(found[1]) + 1)]
    assert title_lengths(made, [found[1], following]).tolist()[0] <= title_room(made, None)
    assert title_lengths(made, [following])[0] > title_room(made, None)


@pytest.mark.parametrize(
    "title",
    [
        "千与千寻" * 60,
        "x" * 500,
        "ใครสักคน" * 50,
        "Ab " + "y" * 500,
        "👩‍👩‍👧‍👦🏳️‍🌈" * 40,
        "e\u0301\u0323" * 200,
        "a" + "\u0301" * 900,
    ],
)
def test_a_title_without_blanks_is_cut_between_characters(title: str) -> None:
    (found,) = shown([title])
    assert 0 < len(found) < len(title)
    assert title.startswith(found)
    marks = regex.findall(r"\X", title)
    whole = "".join(marks[: len(regex.findall(r"\X", found))])
    # Only a single character that is too long by itself is split.
    assert found == whole or len(marks) == 1


def test_a_blank_that_comes_early_is_no_place_to_cut() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 20

    assert beginning("ab " + "y" * 50, fits) == "ab " + "y" * 17
    assert beginning("one two three four five six", fits) == "one two three four"
    assert beginning("exactly twenty chars and more", lambda text: len(text) <= 20) == "exactly twenty chars"


@settings(max_examples=40, deadline=None)
@given(
    titles=st.lists(st.one_of(st.text(max_size=300), st.text("ab ", max_size=600)), min_size=1, max_size=5),
    max_tokens=st.integers(130, 400),
    bos=st.booleans(),
)
def test_every_prompt_of_cut_titles_fits_and_shows_the_newest(titles: list[str], max_tokens: int, bos: bool) -> None:
    measure = encoder(max_tokens=max_tokens, bos=bos)
    room = title_room(measure, None)
    result = ["", *titles]
    for cut in cut_titles(measure, titles, room):
        result[cut.row + 1] = cut.shown
    made = encoder(result, max_tokens, bos=bos)
    items = list(range(1, len(result)))
    for target in items:
        trained, asked = made.encode(items, target), made.encode(items)
        assert len(trained.input_ids) <= max_tokens
        # With the room reserved for it, no target changes its prompt.
        assert trained.input_ids[: trained.response_start] == asked.input_ids
        assert made.encode([target]).input_ids != made.encode([]).input_ids
    assert not cut_titles(measure, result[1:], room)


def test_the_lengths_are_those_of_prompts() -> None:
    titles = ["", "Heat", "Toy Story (1995)", "千与千寻"]
    made = encoder(titles, bos=True)
    for item, length in zip((1, 2, 3), title_lengths(made, titles[1:]).tolist(), strict=True):
        alone = len(made.encode([item]).input_ids) - made.template_tokens
        assert length == max(len(made.response_ids(item)), alone)
    assert title_lengths(made, []).tolist() == []


@pytest.mark.parametrize(
    ("max_tokens", "asked", "words"),
    [
        (64, None, "llm.max_tokens is 64"),
        (256, LEAST_ROOM - 1, "llm.max_title_tokens is 15"),
        (256, 120, "llm.max_title_tokens is 120"),
    ],
)
def test_what_leaves_no_room_is_refused(max_tokens: int, asked: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        title_room(encoder(max_tokens=max_tokens), asked)
    assert "llm.max_" in caught.value.remedy


def test_what_the_remedy_says_is_enough() -> None:
    with pytest.raises(UserError) as caught:
        title_room(encoder(max_tokens=64), None)
    least = int(regex.search(r"to (\d+)", caught.value.remedy)[1])
    assert title_room(encoder(max_tokens=least), None) >= LEAST_ROOM
    assert title_room(encoder(max_tokens=256), None) == 64
    assert title_room(encoder(max_tokens=256), 90) == 90


def test_titles_of_one_beginning_are_cut_alike() -> None:
    night = "a night in love and the man of the title "
    assert len(set(shown([night * count for count in range(8, 30)]))) == 1
    assert len(set(shown(["千与千寻" * count for count in range(30, 60)]))) == 1
