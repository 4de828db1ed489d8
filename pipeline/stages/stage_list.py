"""The stages of a run, in order, and what each one's result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.digest import json_digest
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import code_identity, file_identities, model_identity
from pipeline.engine.graph import Stage, StageContext, needed_stages
from pipeline.ingest.files.sources import find_files
from pipeline.stages.feature_list import feature_stages
from pipeline.stages.selection_needs import FEATURE_NAMES, SelectionNeeds, effort_needs

# A stage's libraries take seconds to load, so each is imported when its stage runs.


def _ingest(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.ingest_stage import run_ingest

    return run_ingest(context)


def _surrogate(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.surrogate_stage import run_surrogate

    return run_surrogate(context)


def _influence(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.influence_stage import run_influence

    return run_influence(context)


def _effort(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.effort_stage import run_effort

    return run_effort(context)


def _select(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.select_stage import run_select

    return run_select(context)


def _finetune(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.finetune_stage import run_finetune

    return run_finetune(context)


def _evaluate(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.evaluate_stage import run_evaluate

    return run_evaluate(context)


def _report(context: StageContext) -> Mapping[str, object]:
    from pipeline.stages.report_stage import run_report

    return run_report(context)


def log_identity(config: Config) -> Mapping[str, object]:
    """Identify the files of the log and the catalogue: name, size, etag or hash, and what the storage says of each."""
    sources = (
        ("interactions", config.data.interactions, ".item"),
        ("items", config.data.items, ".inter"),
    )
    return {
        key: [
            identity | file.identity()
            for file in find_files(location, f"data.{key}", skip_suffix=other)
            for identity in file_identities([file.name])
        ]
        for key, location, other in sources
        if location is not None
    }


def _ingest_sources(config: Config) -> Mapping[str, object]:
    """Identify the log, and the tokenizer if it decides which items are left out of it."""
    llm = config.llm
    if llm.long_titles != "drop":
        return log_identity(config)
    counted = [model_identity(llm.model), llm.template, llm.max_tokens, llm.max_title_tokens]
    return {**log_identity(config), "long titles left out": json_digest(counted)[:16]}


def llm_files(config: Config) -> Mapping[str, object]:
    return {"llm": model_identity(config.llm.model)}


def evaluated_files(config: Config) -> Mapping[str, object]:
    """Identify the model's files and, for constrained decoding, the version of its search.

    Free decoding has not changed, so its earlier results stay valid.
    """
    search = {"search of titles": 2} if config.evaluate.decoding == "constrained" else {}
    return {**llm_files(config), **search}


def _surrogate_code(config: Config) -> Mapping[str, object]:
    """Identify the code of a user's own surrogate: another version of it is another surrogate."""
    module, own, _ = config.surrogate.model.partition(":")
    return {"surrogate code": code_identity(module)} if own else {}


def _selector_code(config: Config) -> Mapping[str, object]:
    """Identify the code of a user's own selector: another version of it is another selection."""
    module, own, _ = config.select.method.partition(":")
    return {"selector code": code_identity(module)} if own else {}


#: All keys of `llm` except the model's path, because the model's files are among the inputs.
LLM_KEYS = (
    "llm.dtype",
    "llm.template",
    "llm.max_items",
    "llm.max_tokens",
    "llm.long_titles",
    "llm.max_title_tokens",
)

STAGES = (
    Stage(
        name="ingest",
        folder="data",
        needs=(),
        keys=(
            "data.columns",
            "data.split",
            "data.join_parts",
            "data.min_rating",
            "data.min_interactions",
            "data.missing_title",
            "data.missing_id",
            "data.null_values",
            "samples",
        ),
        version=2,
        work=_ingest,
        subfolders=("sequences", "samples/train", "samples/valid", "samples/test"),
        sources=_ingest_sources,
        unit="shards",
    ),
    Stage(
        name="surrogate",
        folder="surrogate",
        needs=("ingest",),
        keys=("surrogate", "samples.max_history", "evaluate.mask_seen"),
        version=2,
        work=_surrogate,
        sources=_surrogate_code,
        unit="steps",
        # Its checkpoints fit any number of workers.
        elastic=("surrogate.workers",),
    ),
    Stage(
        name="influence",
        folder="scores/influence",
        needs=("ingest", "surrogate"),
        keys=("influence",),
        version=2,
        work=_influence,
    ),
    Stage(
        name="effort",
        folder="scores/effort",
        needs=("ingest", "influence"),
        keys=(
            "effort",
            *LLM_KEYS,
            "finetune.lora_r",
            "finetune.lora_alpha",
            "finetune.targets",
            "finetune.layers",
            "finetune.seed",
        ),
        version=4,
        work=_effort,
        sources=llm_files,
    ),
    Stage(
        name="select",
        folder="coreset",
        needs=("ingest", "surrogate", "influence", "effort"),
        keys=("select", "influence.scope", "influence.target"),
        version=6,
        work=_select,
        sources=_selector_code,
    ),
    Stage(
        name="finetune",
        folder="model",
        needs=("ingest", "select"),
        keys=("finetune", *LLM_KEYS, "select.reference_users"),
        version=7,
        work=_finetune,
        sources=llm_files,
        unit="steps",
        # Its checkpoints hold whole tensors, so they fit any number of workers and whatever saves memory. A complete
        # adapter was made by the settings that it names.
        elastic=(
            "finetune.workers",
            "finetune.checkpoint_steps",
            "finetune.micro_batch_tokens",
            "finetune.activation_checkpointing",
            "finetune.zero",
            "finetune.offload",
            "finetune.cache_gib",
        ),
    ),
    Stage(
        name="evaluate",
        folder="eval",
        needs=("ingest", "surrogate", "finetune"),
        keys=("evaluate", *LLM_KEYS),
        version=6,
        work=_evaluate,
        sources=evaluated_files,
        unit="parts",
    ),
    Stage(
        name="report",
        folder="report",
        needs=("ingest", "surrogate", "influence", "effort", "select", "finetune", "evaluate"),
        keys=(),
        version=2,
        work=_report,
        unit="pages",
    ),
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)
#: The stage of a comparison that evaluates the LLM before any tuning.
UNTUNED_NAME = "untuned"
#: The stage of a comparison by proxies that embeds the titles by the LLM.
TITLE_EMBEDDINGS = "title_embeddings"
#: The stages that load the LLM.
LLM_STAGES = frozenset({"effort", "finetune", "evaluate", UNTUNED_NAME, TITLE_EMBEDDINGS})
ARM_STAGES = ("select", "finetune", "evaluate")
SHARED_STAGES = tuple(stage for stage in STAGES if stage.name not in (*ARM_STAGES, "report"))
#: The names that a command takes, in the order of a run; the features are there when the selector reads them.
COMMAND_STAGE_NAMES = (
    *(stage.name for stage in SHARED_STAGES),
    *FEATURE_NAMES,
    *(stage.name for stage in STAGES if stage not in SHARED_STAGES),
)


def stages_before_selection(config: Config) -> tuple[Stage, ...]:
    """Return the stages that selections of one log share, read or not, and the features of this selection."""
    shared = (
        replace(stage, needs=effort_needs(config)) if stage.name == "effort" else stage for stage in SHARED_STAGES
    )
    return (*shared, *feature_stages(config))


def stages_of(config: Config) -> tuple[Stage, ...]:
    """Return the stages of a run: neither the selection nor the report needs scores that the selection does not read.

    Effort over a whole log is the most expensive stage, and most selectors do without it.
    """
    return stages_before_selection(config) + _later_stages(config)


def _later_stages(config: Config) -> tuple[Stage, ...]:
    """Return the stages of a run from its selection on, without needs that the selection does not have."""
    needs = SelectionNeeds.of(config)
    unread = {"influence", "effort"} - set(needs.stages)
    keys = {"select": _selection_keys(needs)}
    return tuple(
        replace(
            stage,
            needs=tuple(need for need in stage.needs if need not in unread),
            derived=needs.feature_stages if stage.name in ("select", "report") else (),
            keys=keys.get(stage.name, stage.keys),
        )
        for stage in STAGES
        if stage not in SHARED_STAGES
    )


def all_stages(config: Config) -> tuple[Stage, ...]:
    """Return every stage and the features of this selection, whether or not the selection reads the scores.

    A forecast measures them all.
    """
    features = feature_stages(config)
    names = tuple(stage.name for stage in features)
    later = (stage for stage in STAGES if stage not in SHARED_STAGES)
    derived = {"select": names, "report": names}
    return (*SHARED_STAGES, *features, *(replace(stage, derived=derived.get(stage.name, ())) for stage in later))


def _selection_keys(needs: SelectionNeeds) -> tuple[str, ...]:
    """Return the keys of the selection: all of `influence` if it reads an influence that is computed for it alone."""
    (select,) = (stage for stage in STAGES if stage.name == "select")
    return ("select", "influence") if needs.aims_influence else select.keys


def stage_names_of(config: Config) -> tuple[str, ...]:
    """Return the names of the stages that a run goes through."""
    stages = stages_of(config)
    return tuple(stage.name for stage in needed_stages(stages, [stages[-1].name]))


def shared_stages(configs: Sequence[Config]) -> tuple[Stage, ...]:
    """Return the stages that these configurations share, in order: what their selections read, and what that needs.

    The configurations differ only in how they select, tune and evaluate. Features are left out: each selection may ask
    for them with settings of its own.
    """
    names = [name for config in configs for name in SelectionNeeds.of(config).stages]
    return tuple(needed_stages(stages_before_selection(configs[0]), names))


def arm_stages(arm: str, config: Config) -> tuple[Stage, ...]:
    """Return the stages of a comparison's arm in its own folder; its evaluation has no baselines."""
    selection = SelectionNeeds.of(config)
    needs = {"select": selection.stages, "evaluate": ("ingest", "finetune")}
    keys = {"select": _selection_keys(selection)}
    return tuple(
        replace(
            stage,
            command=None,
            folder=f"arms/{arm}/{stage.folder}",
            needs=needs.get(stage.name, stage.needs),
            derived=selection.feature_stages if stage.name == "select" else (),
            keys=keys.get(stage.name, stage.keys),
        )
        for stage in STAGES
        if stage.name in ARM_STAGES
    )
