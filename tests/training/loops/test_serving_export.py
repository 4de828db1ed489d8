"""The folder of a tuned adapter says all that it takes to build its prompts without this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cluster.storage import Storage
from tests.tiny_llm import make_tokenizer
from training.llm.llm_config import LlmConfig
from training.llm.prompts import PromptEncoder, load_template
from training.loops.serving_export import EXAMPLE, write_serving

TITLES = ["", "Toy Story (1995)", 'The "Rock"', "千与千寻", "Heat\n</s>", "Fargo " * 30]
IDS = [f"i{number}" for number in range(1, 6)]
HISTORIES = [[], [1], [2, 3], [5, 4, 3, 2, 1, 2], [1, 5, 2], [5, 5]]
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATES: list[str | dict[str, Any]] = [
    "movies",
    {"instruction": "Next?", "history_prefix": "Seen:", "separator": " |", "response_prefix": "Answer: "},
    {"name": "books", "layout": "chat"},
]
DECODING = {"decoding": "constrained", "beams": 7}


def written(folder: Path, llm: LlmConfig, tokenizer: PreTrainedTokenizerFast) -> Storage:
    out = Storage.at(folder)
    out.write_text("README.md", "# Adapter\n")
    write_serving(llm, tokenizer, TITLES, IDS, DECODING, out)
    return out


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("bos", [False, True])
def test_the_program_of_the_card_builds_the_prompts_of_training(
    tmp_path: Path, template: str | dict[str, Any], bos: bool
) -> None:
    tokenizer = make_tokenizer(bos=bos)
    tokenizer.chat_template = CHAT
    llm = LlmConfig(model="tiny", template=template, max_items=4, max_tokens=200)
    out = written(tmp_path, llm, tokenizer)
    serving, loaded = out.read_json("serving.json"), AutoTokenizer.from_pretrained(tmp_path)
    items = [json.loads(line) for line in out.read_text("titles.jsonl").splitlines()]
    assert [item["item_id"] for item in items] == IDS
    names: dict[str, Any] = {
        "tokenizer": loaded,
        "prompt": serving["prompt"],
        "titles": {item["item_id"]: item["title"] for item in items},
    }
    functions = EXAMPLE.partition("def ids(text):")[2].partition("# The trie")[0]
    exec("def ids(text):" + functions, names)
    encoder = PromptEncoder(tokenizer, load_template(template), TITLES, llm.max_items, llm.max_tokens)
    lengths = set()
    for history in HISTORIES:
        expected = encoder.encode(history)
        assert names["prompt_ids"]([IDS[item - 1] for item in history]) == expected.input_ids
        lengths.add(len(expected.input_ids))
    assert len(lengths) > 2
    for item in range(1, len(TITLES)):
        quoted = f'"{names["titles"][IDS[item - 1]]}"'
        assert [*names["continued"](quoted), loaded.eos_token_id] == encoder.response_ids(item)
    assert serving["longest_title"] == max(len(encoder.response_ids(item)) for item in range(1, len(TITLES)))


def test_the_card_shows_the_prompt_and_the_whole_program_once(tmp_path: Path) -> None:
    llm = LlmConfig(model="/secret/place/tiny", template="movies", max_tokens=200)
    out = written(tmp_path, llm, make_tokenizer())
    first = {name: out.read_bytes(name) for name in out.list()}
    write_serving(llm, make_tokenizer(), TITLES, IDS, DECODING, out)
    assert {name: out.read_bytes(name) for name in out.list()} == first
    card = out.read_text("README.md")
    assert card.startswith("# Adapter\n")
    assert EXAMPLE in card
    assert "recommend the next movie.\n\n### Input:\nThe user has watched the following movies:" in card
    assert '"Title of the newest item"\n\n### Response:\n"Title of the next item"' in card
    assert not any(b"secret" in data for data in first.values())
    serving = out.read_json("serving.json")
    assert (serving["decoding"], serving["dtype"], serving["base_model"]) == (DECODING, "bfloat16", "tiny")
    assert serving["template"]["instruction"] in card
