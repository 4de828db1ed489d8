"""docs/ARCHITECTURES.md: what is found in every causal language model of transformers, or why it is refused.

    python -m tests.architecture_table

writes it again for the installed version.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cluster.errors import UserError
from scoring.exceptions import NoAttentionError
from scoring.projections import Attention, find_structure
from tests.architectures import architectures, small_config, small_model
from training.llm.lora_targets import lora_targets
from training.llm.usable_models import check_kind, check_model

FILE = Path(__file__).parents[1] / "docs" / "ARCHITECTURES.md"
_INTRODUCTION = """# Architectures

This page lists what dealrec finds in each class that transformers {version} loads as a causal language model, in a
small random copy of it. `python -m tests.architecture_table` writes the page, and
`tests/training/test_architectures.py` holds the code to it. Hybrids were built with their attention in the middle,
between layers of other kinds.

- *attention* counts the layers that weigh tokens by a softmax, among all decoder layers. LoRA goes on the query and
  value maps of all of them.
- *values* names the maps that make the values of the last attention layer. They are in that layer unless another is
  named. `effort.scope: last_v` is their `lora_B`. In a fused map, marked `qkv` or `kv`, it is the `lora_B` of the
  whole map.
- A model without attention needs `finetune.targets: all-linear` for LoRA and `effort.scope: all` for effort.

| model type | class | attention | last attention layer | queries | values | fused |
|---|---|---|---|---|---|---|
"""
_REASONS = {
    "depends on the tokens after it": "refused: reads ahead, as configured by default",
    "depends on the padding": "refused: does not leave padding out",
    "fails on plain text": "refused: fails on plain text",
    "an encoder-decoder model": "refused: an encoder-decoder model",
}


def row(architecture: str) -> tuple[str, ...]:
    """The cells of one architecture: seven, or three with a reason."""
    head = (architecture, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[architecture])
    try:
        check_kind(small_config(architecture), architecture)
        model = small_model(architecture)
        check_model(model, architecture)
        structure = find_structure(model)
        lora_targets(model, None)
    except UserError as error:
        return (*head, next(reason for words, reason in _REASONS.items() if words in error.message))
    except NoAttentionError:
        return (*head, "no attention")
    except ImportError:
        return (*head, "not built: asks for further packages")
    except Exception:  # noqa: BLE001 - whatever the library raises at its own default configuration
        return (*head, "not built: its default configuration is not complete")
    last = structure.attention[-1]
    maps = [_maps(names, last) for names in (last.query, last.value)]
    return (*head, f"{len(structure.attention)} of {len(structure.layers)}", f"`{last.module}`", *maps, last.fused)


def _maps(names: tuple[str, ...], layer: Attention) -> str:
    return ", ".join(f"`{name.removeprefix(f'{layer.module}.')}`" for name in names) or "no linear map"


def page(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join((*cells, *[""] * (7 - len(cells)))) + " |" for cells in rows]
    return _INTRODUCTION.format(version=version("transformers")) + "\n".join(lines) + "\n"


def committed() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The cells of the page by model type."""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if cells[0].strip() in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            yield cells[0], cells


if __name__ == "__main__":
    FILE.write_text(page([row(architecture) for architecture in architectures()]), encoding="utf-8")
