"""The card of an exported data set: where it comes from, how it is loaded, and how other tools learn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.export.export_formats import FORMATS, PREFIX, READERS

#: The versions that the card's advice was checked with.
TRL, LLAMA_FACTORY, AXOLOTL = "TRL 1.16.0", "LLaMA-Factory 0.9.5", "Axolotl 0.19.0"


@dataclass(frozen=True)
class Facts:
    """What the card says of its data set.

    Attributes
    ----------
    provenance : lines by name.
    llm : name of the model whose tokenizer was used.
    tokens : `finetune.tokens`, response or all.
    samples, differ : how many there are, and how many have other tokens when their text is tokenized whole.
    longest : tokens of the longest sample.
    leading : what the tokenizer puts before a text; empty if nothing.
    """

    provenance: Mapping[str, str]
    llm: str
    tokens: str
    samples: int
    differ: int
    longest: int
    leading: str


def dataset_card(facts: Facts, formats: Sequence[str]) -> str:
    """Return the README.md of the data set in the form that data hubs read, with the configurations of the files.

    `datasets` opens all configurations of a folder with the reader of the first, so only files of one reader have one.
    """
    listed = [name for name in formats if READERS[name] == READERS[formats[0]]]
    configs = [f"- config_name: {name}\n  data_files: {FORMATS[name][0]}" for name in listed]
    front = "\n".join(["---", "tags: [recommendation]", "configs:", *configs, "---"])
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.provenance.items())
    loads = "\n".join(f'load_dataset("{READERS[name]}", data_files="{FORMATS[name][0]}")' for name in formats)
    uses = "\n".join(f"| {' | '.join(use)} |" for use in _uses(facts, formats))
    return f"""{front}

# Coreset of a recommendation log

Histories of titles and the title that came next: samples of a log, chosen to fine-tune a language model on.

| | |
|---|---|
{table}

```python
from datasets import load_dataset

{loads}
```

## What is learnt

{_learnt(facts)} The longest sample has {facts.longest} tokens. {_as_text(facts)}

| tool | file | set | learns |
|---|---|---|---|
{uses}

`dataset_info.json` is for LLaMA-Factory: `dataset_dir` is this folder. These tools average the loss over the tokens of
a batch; the run's own fine-tuning averages it over each sample's tokens, then over samples. `text` of the Parquet file
is prompt and answer, in the chat layout with the chat template of {facts.llm}. Neither it nor the Alpaca, ShareGPT and
chat files hold the tokenizer's leading tokens and the end-of-sequence token. The Alpaca file has the parts of the same
text; the tool puts its own headings between them.
"""


def _learnt(facts: Facts) -> str:
    if facts.tokens == "all":
        return "The run's own fine-tuning learns every token after the first (`finetune.tokens: all`)."
    return "The run's own fine-tuning learns the answer and the end-of-sequence token after it, nothing of the prompt."


def _as_text(facts: Facts) -> str:
    if not facts.differ:
        return "As text, every sample has the same tokens as in fine-tuning."
    return (
        f"{facts.differ} of {facts.samples} samples have other tokens when their text is tokenized whole: "
        "`tokens.parquet` (`--format tokens`) has those of fine-tuning."
    )


def _uses(facts: Facts, formats: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Return rows of tool, file, what to set, and what is then learnt."""
    whole = facts.tokens == "all"
    same = "the same tokens, the same labels"
    text = same if not facts.differ else "the same, but for samples with other tokens"
    part = "prompt and answer" if whole else "the answer alone"
    frame = "in the frame of that template"
    # A sample that is too long for a trainer is dropped, or loses its end, which is the answer.
    long = {
        TRL: "`max_length=None`",
        LLAMA_FACTORY: f"`cutoff_len` of at least {facts.longest}",
        AXOLOTL: f"`sequence_len` of at least {facts.longest}",
    }
    framed = {tool: text.replace("of at least", "well above") for tool, text in long.items()}
    trained = f"`train_on_prompt: {str(whole).lower()}`"
    inputs = f"`train_on_inputs: {str(whole).lower()}`"
    if "tokens" in formats:
        yield TRL, "`tokens.parquet`", long[TRL], same
        yield AXOLOTL, "`tokens.parquet`", f"`ds_type: parquet`, `type:` empty, {long[AXOLOTL]}", same
    if "completions" in formats:
        only = f"`completion_only_loss={not whole}`, "
        without = f", without the leading {facts.leading}" if facts.leading else ""
        yield TRL, "`completions.jsonl`", only + long[TRL], text
        name = f"`{PREFIX}completions`"
        yield LLAMA_FACTORY, name, f"`template: empty`, {trained}, {long[LLAMA_FACTORY]}", text + without
    if "messages" in formats:
        other = "" if whole else "; for the answer alone export `completions` or `tokens`"
        yield TRL, "`messages.jsonl`", long[TRL], f"prompt and answer, {frame.replace('that', 'the chat')}{other}"
        set_ = f"`type: chat_template`, {inputs}, {framed[AXOLOTL]}"
        yield AXOLOTL, "`messages.jsonl`", set_, f"{part}, {frame}"
    if "alpaca" in formats:
        yield AXOLOTL, "`alpaca.jsonl`", f"`type: alpaca`, {inputs}, {framed[AXOLOTL]}", f"{part}, {frame}"
    for name in ("alpaca", "sharegpt", "messages"):
        if name in formats:
            set_ = f"the model's `template`, {trained}, {framed[LLAMA_FACTORY]}"
            yield LLAMA_FACTORY, f"`{PREFIX}{name}`", set_, f"{part}, {frame}"
