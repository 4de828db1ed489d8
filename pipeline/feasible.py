"""What is wrong with a configuration and can be told in seconds: before Ray starts, before results are discarded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import UserError
from cluster.preflight import Finding
from cluster.session import is_embedded
from pipeline.config import Config
from pipeline.stages.catalogue import LLM_STAGES

if TYPE_CHECKING:
    from scoring.surrogate import Surrogate

#: Of a surrogate that is built to be looked at.
_FEW_ITEMS = 100
_LOCAL = ("/", ".", "~")
#: What a folder with a model must hold, by its usual names.
_MODEL_FILES = {
    "configuration": ("config.json",),
    "tokenizer": (
        "tokenizer.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.json",
        "vocab.txt",
        "tokenizer_config.json",
    ),
    "weights": ("*.safetensors",),
}
#: What configurations of transformers call the number of tokens that a model reads.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx")


def check_settings(config: Config, stages: Sequence[str]) -> None:
    """Raise `UserError` for values that would stop one of these stages, after those before it have run."""
    for check in _checks(stages):
        check(config)


def setting_findings(config: Config, stages: Sequence[str]) -> list[Finding]:
    """All that `check_settings` would refuse, one by one.

    Of a cluster's inputs nothing is said: its nodes may see files that this machine does not.
    """
    asked = stages if is_embedded(config.cluster.address) else [stage for stage in stages if stage != "ingest"]
    found = []
    for check in _checks(asked):
        try:
            check(config)
        except UserError as error:
            found.append(Finding("settings", "of the config", error.message.rstrip("."), error.remedy))
    # Two checks may come upon the same fault.
    return list(dict.fromkeys(found))


def _checks(stages: Sequence[str]) -> Iterator[Callable[[Config], None]]:
    if "ingest" in stages:
        yield _check_inputs
    if "surrogate" in stages:
        yield _check_surrogate
    if "influence" in stages:
        yield _check_influence
    if "audit" in stages:
        yield _check_audit
    if LLM_STAGES & set(stages):
        yield _check_template
        yield _check_model
    if "finetune" in stages:
        yield _check_tuning


def _check_inputs(config: Config) -> None:
    from pipeline.ingest.sources import find_files

    find_files(config.data.interactions, "data.interactions", skip_suffix=".item")
    if config.data.items is not None:
        find_files(config.data.items, "data.items", skip_suffix=".inter")


def _check_surrogate(config: Config) -> None:
    _small_surrogate(config)


def _check_influence(config: Config) -> None:
    section = config.influence
    _check_scope(config, "influence.scope", section.scope, (section.solver,))


def _check_audit(config: Config) -> None:
    for scope in config.audit.scopes or ():
        # What a solver cannot do with a scope is told in the audit's table.
        _check_scope(config, "audit.scopes", (scope,), ())


def _check_scope(config: Config, key: str, patterns: Sequence[str] | None, solvers: Sequence[str]) -> None:
    from scoring.errors import ScoringError
    from scoring.influence import check_exact, linear_layers
    from scoring.objective import reduce_to_scope
    from scoring.surrogate import surrogate_scope

    model = _small_surrogate(config)
    if model is None:
        return
    try:
        scope = surrogate_scope(model, patterns)
        if "exact" in solvers:
            check_exact(scope)
        if "ekfac" in solvers:
            linear_layers(reduce_to_scope(model, scope), scope)
    except ScoringError as error:
        raise UserError(
            f"{key}: {error}.",
            f"The surrogate's scopes are {', '.join(model.scopes())}; patterns of parameter names go as well.",
        ) from error


def _small_surrogate(config: Config) -> Surrogate | None:
    """The configured surrogate of a few items: what is wrong with its settings shows in it.

    None for one of the user's own, which may insist on the real catalogue; it must be there, though.
    """
    from pipeline.stages.surrogate import network_settings
    from scoring.errors import SettingError
    from scoring.surrogate import build_surrogate, surrogate_builder

    model = config.surrogate.model
    try:
        if ":" in model:
            surrogate_builder(model)
            return None
        return build_surrogate(model, _FEW_ITEMS, network_settings(config))
    except SettingError as error:
        raise UserError(f"surrogate: {error}.", "Correct the settings of the surrogate.") from error


def _check_model(config: Config) -> None:
    """A path of this machine; nodes of a cluster may have others, and names are the hub's to know."""
    model = config.llm.model
    if is_embedded(config.cluster.address) and model.startswith(_LOCAL) and not Path(model).expanduser().exists():
        raise UserError(
            f"llm.model: {model} is not there.",
            "Give a folder with a model's files, a GGUF file, or the name of a model on the hub.",
        )
    _check_positions(config)
    _check_model_files(Path(model))


def _check_model_files(folder: Path) -> None:
    """What is there of a model's folder must be complete. Of other names nothing is known here."""
    if not folder.is_dir():
        return
    for what, patterns in _MODEL_FILES.items():
        if not any(next(folder.glob(pattern), None) for pattern in patterns):
            raise UserError(
                f"llm.model: {folder} holds no {what} ({', '.join(patterns)}).",
                "Write it with save_pretrained of the model and of its tokenizer; pickled weights are not read.",
            )


def _check_positions(config: Config) -> None:
    """A model with learned positions fails beyond the last of them, and others were never trained there."""
    limit = _positions(Path(config.llm.model).expanduser() / "config.json")
    if limit is not None and config.llm.max_tokens > limit:
        raise UserError(
            f"llm.max_tokens is {config.llm.max_tokens}, and {config.llm.model} reads at most {limit} tokens.",
            f"Set llm.max_tokens to {limit} or less.",
        )


def _positions(file: Path) -> int | None:
    """Tokens that a model reads by its configuration; None where that is not said. A broken file is told on loading."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = [said[key] for key in _POSITIONS if isinstance(said.get(key), int)] if isinstance(said, dict) else []
    return found[0] if found else None


def _check_template(config: Config) -> None:
    from training.prompts import load_template

    load_template(config.llm.template)


def _check_tuning(config: Config) -> None:
    from pipeline.stages.finetune import finetune_spec, llm_spec
    from training.placement import Placement

    finetune_spec(config, llm_spec(config), Placement()).check()
