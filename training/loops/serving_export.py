"""The files that serve a tuned adapter without this project: tokenizer, prompt, titles and an example."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from cluster.storage import Storage
from training.llm.llm_config import LlmConfig
from training.llm.prompts import PromptEncoder, load_template
from training.loops.finetune_export import public_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The file of the prompt's parts and the settings of decoding, and the file of the titles that may be answered.
SERVING, TITLES = "serving.json", "titles.jsonl"
_CARD = "README.md"
#: Separates the adapter's card from the section that is added here.
_HEADING = "\n## Serving\n"

#: A complete program that the card shows and a test runs.
EXAMPLE = '''\
import json, os, sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER, BASE = Path("path/to/this/folder"), "path/to/the/base/model"
serving = json.loads((FOLDER / "serving.json").read_text())
items = [json.loads(line) for line in (FOLDER / "titles.jsonl").read_text().splitlines()]
titles = {item["item_id"]: item["title"] for item in items}
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
base = AutoModelForCausalLM.from_pretrained(BASE, dtype=getattr(torch, serving["dtype"]))
model = PeftModel.from_pretrained(base, FOLDER).eval()
prompt, eos = serving["prompt"], tokenizer.eos_token_id


def ids(text):
    return tokenizer(text, add_special_tokens=False).input_ids


def continued(text):
    """The ids of a text that follows another one."""
    anchor, whole = ids(prompt["anchor"]), ids(prompt["anchor"] + text)
    return whole[len(anchor):] if whole[: len(anchor)] == anchor else ids(text)


def prompt_ids(history):
    head, shown = prompt["leading"] + ids(prompt["opening"]), []
    for item in reversed(history[-prompt["max_items"]:]):
        piece = continued(f'{prompt["gap"]}"{titles[item]}"{prompt["join"] if shown else prompt["tail"]}')
        if len(head) + sum(map(len, shown)) + len(piece) > prompt["prompt_tokens"]:
            break
        shown.insert(0, piece)
    return head + (sum(shown, []) if shown else continued(prompt["tail"]))


# The trie of the titles: after the tokens so far, those that lead to a title. The first item of a title stands for all.
trie = {}
for item in items:
    node = trie
    for token in [*continued(f'"{item["title"]}"'), eos]:
        node = node.setdefault(token, {})
    node.setdefault("item", item["item_id"])


def recommend(history, beams):
    """Item ids, best first, by beam search over the catalogue's titles."""
    start = torch.tensor([prompt_ids(history)])

    def allowed(_, tokens):
        node = trie
        for token in tokens[start.shape[1]:].tolist():
            node = node.get(token, {})
        return [token for token in node if token != "item"] or [eos]

    with torch.inference_mode():
        found = model.generate(
            input_ids=start, attention_mask=torch.ones_like(start), prefix_allowed_tokens_fn=allowed,
            num_beams=beams, num_return_sequences=beams, do_sample=False, length_penalty=0.0,
            max_new_tokens=serving["longest_title"], eos_token_id=eos, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    best = []
    for tokens in found[:, start.shape[1]:].tolist():
        node = trie
        for token in tokens:
            node = node.get(token, {})
            if "item" in node:
                best.append(node["item"])
                break
    return list(dict.fromkeys(best))


# Histories of item ids, oldest first, one JSON list a line.
for line in sys.stdin:
    print(json.dumps(recommend(json.loads(line), beams=serving["decoding"]["beams"])))
'''


def write_serving(
    llm: LlmConfig,
    tokenizer: PreTrainedTokenizerBase,
    titles: Sequence[str],
    item_ids: Sequence[str],
    decoding: Mapping[str, object],
    out: Storage,
) -> None:
    """Write the files for serving into the folder of a tuned adapter, and add a section to its model card.

    Parameters
    ----------
    titles : the titles as the LLM sees them, by item index; the first one is padding.
    item_ids : the log's ids of the items, from item 1.
    decoding : the settings of the run's decoding, by the keys of its config.
    out : the adapter's folder, which receives the tokenizer's files, `serving.json`, `titles.jsonl` and the longer
        `README.md`.
    """
    encoder = PromptEncoder(tokenizer, load_template(llm.template), titles, llm.max_items, llm.max_tokens)
    with tempfile.TemporaryDirectory(prefix="dealrec-") as folder:
        tokenizer.save_pretrained(folder)
        out.upload_dir(folder)
    out.write_text(TITLES, "".join(_title_lines(encoder, item_ids)))
    settings = {
        "format": 1,
        "base_model": public_name(llm.model),
        "dtype": llm.dtype,
        "template": asdict(encoder.template),
        "prompt": asdict(encoder.parts),
        "max_tokens": llm.max_tokens,
        "longest_title": max((len(encoder.response_ids(item)) for item in range(1, len(titles))), default=1),
        "decoding": dict(decoding),
        "titles": TITLES,
    }
    out.write_json(SERVING, settings)
    card = out.read_text(_CARD).partition(_HEADING)[0]
    out.write_text(_CARD, card + _section(encoder))


def _title_lines(encoder: PromptEncoder, item_ids: Sequence[str]) -> Iterator[str]:
    for item, item_id in enumerate(item_ids, start=1):
        yield json.dumps({"item_id": item_id, "title": encoder.shown_title(item)}, ensure_ascii=False) + "\n"


def _section(encoder: PromptEncoder) -> str:
    """Return the card's section on serving: the files, the prompt's text, and the example."""
    parts = encoder.parts
    newest = f'{parts.gap}"Title of the newest item"{parts.tail}'
    text = f'{parts.opening}{parts.gap}"Title of the oldest item"{parts.join}{newest}"Title of the next item"'
    return f"""{_HEADING}
This folder serves alone, with the base model, `transformers` and `peft`. The tokenizer's files are here. `{SERVING}`
has the prompt's parts and the settings of decoding, as the run's config had them when it was tuned. `{TITLES}` has an
item a line, with the title as the model sees it. The model answers with a title in double quotes and the
end-of-sequence token:

````text
{text}
````

The parts of a prompt are tokenised one by one, as the program below does. It reads histories of item ids and answers
with items of the catalogue, by beam search over a trie of the titles' tokens. Items that the user has chosen are among
them.

````python
{EXAMPLE}````
"""
