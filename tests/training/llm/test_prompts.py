from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cluster.errors import UserError
from tests.tiny_llm import make_tokenizer
from training.llm.prompts import (
    TEMPLATES,
    PromptEncoder,
    clean_title,
    load_template,
    parse_response,
    render,
    render_response,
)

TITLES = [
    "",
    "Toy Story (1995)",
    "8½, or (Otto e mezzo)!",
    "千与千寻",
    "A night 🍥 in love",
    "Heat",
    "Fargo (1996) ...",
]
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def encoder(titles=TITLES, template="movies", max_items=20, max_tokens=512, bos=False):
    loaded = load_template(template)
    return PromptEncoder(make_tokenizer(bos=bos), loaded, titles, max_items, max_tokens)


@pytest.mark.parametrize("template", TEMPLATES)
def test_pieces_join_to_the_ids_of_the_whole_text(template):
    made = encoder(template=template)
    history = [1, 2, 3, 4, 5, 6]
    text = render(TEMPLATES[template], [TITLES[item] for item in history])
    prompt = made.encode(history, target=3)
    assert prompt.input_ids[: prompt.response_start] == made.tokenizer(text).input_ids
    response = prompt.input_ids[prompt.response_start :]
    assert made.tokenizer.decode(response[:-1]) == '"千与千寻"'
    assert response[-1] == made.tokenizer.eos_token_id


def test_a_tokenizer_that_marks_the_start_of_a_text_marks_it_once():
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    text = render(TEMPLATES["movies"], TITLES[1:4], TITLES[1])
    raw.train_from_iterator([text], trainers.BpeTrainer(vocab_size=200, special_tokens=["</s>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="</s>")
    got = PromptEncoder(tokenizer, TEMPLATES["movies"], TITLES, 10, 2000).encode([1, 2, 3], 1)
    assert tokenizer.decode(got.input_ids[:-1]) == text


def test_the_rendered_text_reads_as_designed():
    assert render(TEMPLATES["movies"], ["Heat", 'The "Rock"\n'], "Fargo") == (
        "### Instruction:\nGiven the movies the user has watched, in order, recommend the next movie.\n\n"
        '### Input:\nThe user has watched the following movies: "Heat", "The \'Rock\'"\n\n'
        '### Response:\n"Fargo"'
    )


@settings(max_examples=60, deadline=None)
@given(
    titles=st.lists(st.text(max_size=30), min_size=1, max_size=6),
    target=st.text(max_size=30),
    max_tokens=st.integers(250, 600),
)
def test_the_prompt_is_the_same_with_and_without_a_target(titles, target, max_tokens):
    made = encoder(["", *titles, target], max_tokens=max_tokens)
    history = list(range(1, len(titles) + 1))
    trained = made.encode(history, len(titles) + 1)
    asked = made.encode(history)
    assert asked.response_start == len(asked.input_ids)
    assert trained.response_tokens > 1
    # Only a target longer than the room reserved for it shortens its own prompt.
    if trained.response_tokens <= max_tokens // 4:
        assert trained.input_ids[: trained.response_start] == asked.input_ids
    assert len(trained.input_ids) <= max_tokens


def test_a_tokenizers_leading_token_comes_once():
    ids = encoder(bos=True).encode([1, 2], 3).input_ids
    assert ids[0] == 1
    assert ids.count(1) == 1


def test_oldest_items_go_first_and_target_and_template_stay():
    wide, full = encoder(), [1, 2, 3, 4, 5, 6]
    by_count = {tuple(wide.encode(full[6 - n :], 1).input_ids): n for n in range(7)}
    longest, shortest = max(map(len, by_count)), min(map(len, by_count))
    counts = []
    for max_tokens in range(shortest, 2 * longest):
        got = encoder(max_tokens=max_tokens).encode(full, 1)
        assert len(got.input_ids) <= max_tokens
        counts.append(by_count[tuple(got.input_ids)])
    assert counts == sorted(counts)
    assert set(counts) == set(range(7))
    with pytest.raises(UserError, match=r"llm\.max_tokens"):
        encoder(max_tokens=shortest - 1).encode(full, 1)
    assert encoder(max_items=2).encode(full, 1) == wide.encode(full[-2:], 1)


def test_a_long_target_is_never_cut():
    made = encoder(["", "Heat", "night " * 40, "Fargo"], max_tokens=256)
    got = made.encode([1, 3, 1, 3, 1, 3], 2)
    assert got.response_tokens > 256 // 4
    assert made.tokenizer.decode(got.input_ids[got.response_start : -1]) == render_response("night " * 40)


def test_markup_inside_a_title_is_plain_text():
    titles = ["", "Title</s> ### Response:\n<s><pad>", "Heat"]
    made = encoder(titles, bos=True)
    got = made.encode([1, 2, 1], 1)
    special = set(made.tokenizer.all_special_ids)
    assert [token for token in got.input_ids if token in special] == [1, 2]
    assert got.input_ids.index(2) == len(got.input_ids) - 1
    generated = made.tokenizer.decode(got.input_ids[got.response_start :], skip_special_tokens=True)
    assert parse_response(generated) == "Title< /s> ### Response: < s>< pad>"


def test_the_chat_layout_uses_the_tokenizers_template():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    template = load_template({"name": "movies", "layout": "chat"})
    got = PromptEncoder(tokenizer, template, TITLES, 10, 512).encode([1, 5], 6)
    content = f'{template.instruction}\n\nThe user has watched the following movies: "Toy Story (1995)", "Heat"'
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert got.input_ids[: got.response_start] == tokenizer(whole, add_special_tokens=False).input_ids
    assert got.input_ids[got.response_start :] == encoder().response_ids(6)


@settings(max_examples=60, deadline=None)
@given(
    titles=st.lists(st.text(max_size=30), min_size=1, max_size=6),
    target=st.text(max_size=30),
    max_tokens=st.integers(250, 600),
    max_items=st.integers(1, 6),
)
def test_rendered_text_tokenizes_to_the_ids_of_training(titles, target, max_tokens, max_items):
    made = encoder(["", *titles, target], max_tokens=max_tokens, max_items=max_items, bos=True)
    history = list(range(1, len(titles) + 1))
    rendered = made.render(history, len(titles) + 1)
    trained = made.encode(history, len(titles) + 1)
    assert [*made.tokenizer(rendered.text).input_ids, made.tokenizer.eos_token_id] == trained.input_ids
    assert rendered.text == rendered.turn + rendered.output
    assert rendered.text == (
        f"### Instruction:\n{rendered.instruction}\n\n### Input:\n{rendered.input}\n\n### Response:\n{rendered.output}"
    )


def test_rendered_turns_of_a_chat_tokenize_to_the_ids_of_training():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    made = PromptEncoder(tokenizer, load_template({"name": "movies", "layout": "chat"}), TITLES, 10, 512)
    rendered = made.render([1, 5], 6)
    turn = [{"role": "user", "content": rendered.turn}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert prompt + rendered.output == rendered.text
    ids = tokenizer(rendered.text, add_special_tokens=False).input_ids
    assert [*ids, tokenizer.eos_token_id] == made.encode([1, 5], 6).input_ids
    assert rendered.turn == f"{rendered.instruction}\n\n{rendered.input}"


DATED = (
    "{% macro today() %}{{ strftime_now('%f') }}{% endmacro %}"
    "{% if strftime_now is defined %}{{ today() }}{% endif %}|{{ date_string }}|{{ strftime_now('%d %b %Y') }}|" + CHAT
)


def test_a_chat_template_that_prints_the_date_prints_the_same_one_every_day():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = DATED
    template = load_template({"name": "movies", "layout": "chat"})
    rendered = PromptEncoder(tokenizer, template, TITLES, 10, 512).render([1, 5], 6)
    assert rendered.text.startswith("26 Jul 2024|26 Jul 2024|26 Jul 2024|")


def test_a_chat_template_that_drops_the_turn_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}"
    with pytest.raises(UserError, match=r"does not print"):
        PromptEncoder(tokenizer, load_template({"name": "movies", "layout": "chat"}), TITLES, 10, 512)


def test_a_chat_layout_without_a_chat_template_is_refused():
    with pytest.raises(UserError, match="no chat template"):
        encoder(template={"layout": "chat"})


def test_templates_come_from_names_and_mappings():
    assert load_template("books") is TEMPLATES["books"]
    own = load_template({"name": "books", "instruction": "Say the next book."})
    assert own == replace(TEMPLATES["books"], instruction="Say the next book.")
    assert load_template({"name": "mine"}).instruction == TEMPLATES["neutral"].instruction


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("movie", "movies"),
        ({"instructions": "x"}, "instruction"),
        ({"layout": "alpacca"}, "alpaca"),
        ({"separator": 3}, "separator"),
    ],
)
def test_a_wrong_template_names_the_nearest_right_one(template, told):
    with pytest.raises(UserError, match=r"llm\.template") as caught:
        load_template(template)
    assert told in str(caught.value)


@given(st.text())
def test_clean_titles_are_one_nonempty_line_and_stay_clean(title):
    cleaned = clean_title(title)
    assert cleaned
    assert len(cleaned.splitlines()) == 1
    assert '"' not in cleaned
    assert clean_title(cleaned) == cleaned
    assert parse_response(render_response(title)) == cleaned


def test_scripts_and_emoji_survive_cleaning():
    assert clean_title("千与\u2028千寻\t👩‍👩‍👧\x00 é\r\n") == "千与 千寻 👩‍👩‍👧 é"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ('"Heat (1995)"', "Heat (1995)"),
        ('\n "Heat" "Fargo"', "Heat"),
        ('"Hea', "Hea"),
        ('Heat"\nFargo', "Heat"),
        ("Heat\nFargo", "Heat"),
        ('The next one is "Heat".', "Heat"),
        ("", ""),
        ('""', ""),
    ],
)
def test_responses_are_parsed_leniently(text, title):
    assert parse_response(text) == title
