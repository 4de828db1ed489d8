"""What other tools learn from an export is what fine-tuning learns: the same tokens, the same labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from cluster.storage import Storage
from pipeline.cli.main import main
from pipeline.engine.config_file import load_config
from pipeline.engine.sample_tables import read_titles
from pipeline.export.export_card import TRL
from pipeline.export.export_formats import as_plain_text
from pipeline.stages.finetune_stage import llm_spec
from tests.pipeline.export.test_coreset_export import HISTORIES, config_file, run  # noqa: F401
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.llm.token_batches import IGNORED, collate
from training.loops.examples import Encoded, encode_examples

CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message.role }}|>{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Of transformers, about an argument that TRL gives it.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
Learnt = list[tuple[list[int], list[int]]]


def tokenizer_of(file: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(llm_spec(load_config(str(file), [])))


def layout(file: Path, name: str, chat_template: str = CHAT) -> list[str]:
    """The overrides of a layout; for the chat one the tokenizer is given a chat template."""
    if name == "alpaca":
        return []
    tokenizer = tokenizer_of(file)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(file.parent / "llm")
    return ["llm.template={name: movies, layout: chat}"]


def learnt(folder: Storage, file: Path, changes: list[str]) -> Learnt:
    """Tokens and labels of every sample in a batch of fine-tuning, without its padding."""
    config = load_config(str(file), changes)
    tokenizer, llm = tokenizer_of(file), config.llm
    titles = read_titles(folder.child("data"))
    encoder = PromptEncoder(tokenizer, load_template(llm.template), titles, llm.max_items, llm.max_tokens)
    table = encode_examples(folder.read_table("coreset/coreset.parquet"), encoder)
    batch = collate(Encoded(table, config.finetune.tokens), int(tokenizer.pad_token_id))
    return rows_of(batch.input_ids, batch.labels, batch.attention_mask)


def rows_of(input_ids: Any, labels: Any, attention_mask: Any) -> Learnt:
    cells = zip(input_ids, labels, attention_mask.bool(), strict=True)
    return [(ids[real].tolist(), wanted[real].tolist()) for ids, wanted, real in cells]


def export(folder: Storage, file: Path, changes: list[str]) -> Storage:
    overrides = [word for change in changes for word in ("--set", change)]
    assert main(["export", str(file), "--run-dir", folder.uri, *overrides]) == 0
    return folder.child("export")


def trained_by_trl(file: Path, out: Storage, name: str, tmp_path: Path, **settings: object) -> Learnt:
    """What TRL's trainer hands to the model from an exported file."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    reader = "parquet" if name.endswith(".parquet") else "json"
    data = datasets.load_dataset(reader, data_files=f"{out.uri}/{name}", cache_dir=str(tmp_path / "cache"))["train"]
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), use_cpu=True, report_to="none", max_length=None, bf16=False, **settings
    )
    model = AutoModelForCausalLM.from_pretrained(file.parent / "llm")
    trainer = trl.SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer_of(file))
    made = trainer.train_dataset
    batch = trainer.data_collator([made[place] for place in range(len(made))])
    return rows_of(batch["input_ids"], batch["labels"], batch["attention_mask"])


@pytest.mark.parametrize("tokens", ["response", "all"])
@pytest.mark.parametrize("shape", ["alpaca", "chat"])
def test_tokens_and_labels_are_those_of_fine_tuning(
    run: Storage,  # noqa: F811
    config_file: Path,  # noqa: F811
    shape: str,
    tokens: str,
) -> None:
    changes = layout(config_file, shape)
    responses = learnt(run, config_file, changes)
    changes.append(f"finetune.tokens={tokens}")
    expected = learnt(run, config_file, changes)
    out = export(run, config_file, changes)
    table = out.read_table("tokens.parquet")
    assert list(zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True)) == expected
    assert [labels[1] != IGNORED for _, labels in expected] == [tokens == "all"] * len(HISTORIES)
    tokenizer = tokenizer_of(config_file)
    rows = [json.loads(line) for line in out.read_text("completions.jsonl").splitlines()]
    for row, (ids, labels) in zip(rows, responses, strict=True):
        prompt = tokenizer(row["prompt"]).input_ids
        assert tokenizer(row["prompt"] + row["completion"]).input_ids == ids
        assert [*[IGNORED] * len(prompt), *ids[len(prompt) :]] == labels
    assert "As text, every sample has the same tokens" in out.read_text("README.md")


@pytest.mark.parametrize("tokens", ["response", "all"])
@pytest.mark.parametrize("shape", ["alpaca", "chat"])
def test_trl_learns_what_fine_tuning_learns(
    run: Storage,  # noqa: F811
    config_file: Path,  # noqa: F811
    tmp_path: Path,
    shape: str,
    tokens: str,
) -> None:
    trl = pytest.importorskip("trl")
    assert f"TRL {trl.__version__}" == TRL, "the card names another version than the one that is tested"
    changes = [*layout(config_file, shape), f"finetune.tokens={tokens}"]
    expected = learnt(run, config_file, changes)
    out = export(run, config_file, changes)
    assert trained_by_trl(config_file, out, "tokens.parquet", tmp_path) == expected
    only = {"completion_only_loss": tokens == "response"}
    found = trained_by_trl(config_file, out, "completions.jsonl", tmp_path, **only)
    if tokens == "all":
        # The first token, which nothing predicts, has a label that is never read.
        found = [(ids, [IGNORED, *labels[1:]]) for ids, labels in found]
    assert found == expected


def test_trl_learns_the_prompt_of_messages_as_the_card_says(
    run: Storage,  # noqa: F811
    config_file: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = export(run, config_file, layout(config_file, "chat"))
    for ids, labels in trained_by_trl(config_file, out, "messages.jsonl", tmp_path):
        assert labels == ids
    card = out.read_text("README.md").splitlines()
    assert ["prompt and answer" in row for row in card if "| TRL" in row and "messages.jsonl" in row] == [True]


def test_texts_that_tokenize_otherwise_are_counted(
    run: Storage,  # noqa: F811
    config_file: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A chat template that begins with nothing, of a tokenizer that begins every text with a token of its own."""
    changes = layout(config_file, "chat", CHAT.removeprefix("{{ bos_token }}"))
    out = export(run, config_file, changes)
    said = f"{len(HISTORIES)} of {len(HISTORIES)} samples have other tokens"
    assert said in capsys.readouterr().err
    assert said in out.read_text("README.md")
    table = out.read_table("tokens.parquet")
    assert table["input_ids"].to_pylist() == [ids for ids, _ in learnt(run, config_file, changes)]


def test_what_the_tokenizer_puts_first_is_not_in_the_text_twice(config_file: Path) -> None:  # noqa: F811
    layout(config_file, "chat")
    tokenizer = tokenizer_of(config_file)
    encoder = PromptEncoder(tokenizer, load_template({"layout": "chat"}), ["", "a", "b"], 3, 200)
    rendered = encoder.render([1], 2)
    prompt, completion = as_plain_text(tokenizer, rendered)
    assert rendered.text.startswith("<s>")
    assert not prompt.startswith("<s>")
    assert completion == '"b"</s>'


@pytest.mark.parametrize("tokens", ["response", "all"])
def test_the_card_says_what_to_set_for_what_is_learnt_here(
    run: Storage,  # noqa: F811
    config_file: Path,  # noqa: F811
    tokens: str,
) -> None:
    changes = [f"finetune.tokens={tokens}"]
    longest = max(len(ids) for ids, _ in learnt(run, config_file, changes))
    card = export(run, config_file, changes).read_text("README.md")
    answer = ["completion_only_loss=True", "train_on_prompt: false", "train_on_inputs: false"]
    everything = ["completion_only_loss=False", "train_on_prompt: true", "train_on_inputs: true"]
    wanted, others = (everything, answer) if tokens == "all" else (answer, everything)
    assert [setting in card for setting in (*wanted, *others)] == [True] * 3 + [False] * 3
    assert f"`sequence_len` of at least {longest}" in card


def test_a_card_names_only_files_that_are_there(run: Storage, config_file: Path) -> None:  # noqa: F811
    assert main(["export", str(config_file), "--run-dir", run.uri, "--format", "messages"]) == 0
    card = run.child("export").read_text("README.md")
    named = {word.strip("`") for word in card.split() if word.strip("`").endswith((".jsonl", ".parquet"))}
    assert named == {"messages.jsonl"}
