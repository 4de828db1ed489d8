"""The configuration: every key, its type, its default, and what it means.

The sections that a training reads are defined in `training`; the others are here. An unknown key is refused, and the
message names the nearest valid one. Values are checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from scoring.selectors.coreset_size import checked_size
from scoring.selectors.selector_settings import BuiltInSettings
from scoring.settings import PositiveInt, Section, Share, unmet
from scoring.solver_settings import SolverName, SolverSettings
from training.llm.llm_config import LlmConfig
from training.loops.finetune_config import FinetuneConfig
from training.loops.surrogate_config import SurrogateConfig
from training.ranking.cutoffs import CUTOFFS


class Columns(Section):
    """Names of the log's columns; those left out are recognised by their usual names."""

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    position: str | None = None
    rating: str | None = None
    split: str | None = None
    title: str | None = None

    def get(self, role: str) -> str | None:
        """Return the column that the user names for a role, or None if it is to be recognised."""
        name: str | None = getattr(self, role)
        return name


class MinInteractionsConfig(Section):
    """The k-core of the log: users and items with fewer interactions are dropped, repeatedly, until none has fewer."""

    user: PositiveInt = 1
    item: PositiveInt = Field(1, description="Above 1, items of the catalogue that nobody chose are dropped as well.")


class DataConfig(Section):
    """The interaction log and the catalogue."""

    interactions: str = Field(description="Path, directory, glob or URI (s3, gs, abfss, hf) of the log.")
    items: str | None = Field(None, description="The same for the catalogue; None takes titles from the log.")
    columns: Columns = Columns()
    split: Literal["auto", "global_time", "leave_one_out", "column"] = Field(
        "auto", description="How the log is split; auto goes by a column or the files' names, else by global_time."
    )
    join_parts: bool = Field(False, description="Join files that are named train, valid or test into one log.")
    min_rating: float | None = Field(None, description="Interactions with a lower rating are dropped.")
    min_interactions: MinInteractionsConfig = MinInteractionsConfig()
    missing_title: Literal["error", "drop"] = "error"
    missing_id: Literal["error", "drop"] = Field("error", description="What to do with interactions without an id.")
    null_values: tuple[str, ...] | None = Field(
        None,
        description="Texts that mean a missing value; None refuses ids and titles that look like one, [] does not.",
    )


class SamplesConfig(Section):
    """The positions of the log that become samples."""

    per_user: PositiveInt | Literal["all"] = Field(1, description="Last N train targets of a user, or all.")
    max_history: PositiveInt = Field(50, description="Most items of history that a sample keeps.")
    shards: PositiveInt | None = Field(None, description="Number of output files; None follows the size of the data.")


class InfluenceConfig(Section):
    """The effect of removing each sample on the empirical risk."""

    solver: SolverName = SolverSettings.solver
    scope: tuple[str, ...] | None = Field(
        None, description="Names of the surrogate's scopes, or patterns; None is its default."
    )
    target: Literal["train", "valid"] = Field("train", description="The samples of the risk: train or validation.")
    damping: float = Field(SolverSettings.damping, gt=0)
    curvature_samples: Annotated[int, Field(ge=1, le=65536)] | Literal["all"] = Field(
        8192, description="Number of samples that the curvature averages, drawn by hash and kept in memory; or all."
    )
    tolerance: float = Field(
        SolverSettings.tolerance,
        gt=0,
        lt=1,
        description="Relative residual at which cg stops; with a larger one, the scores depend on the partition.",
    )
    max_iterations: PositiveInt = SolverSettings.max_iterations
    lissa_damp: Share = SolverSettings.lissa_damp
    lissa_scale: float = Field(SolverSettings.lissa_scale, gt=0)
    lissa_steps: PositiveInt = SolverSettings.lissa_steps
    max_nonfinite: Share = Field(0.0, description="Share of non-finite scores above which the stage fails.")

    @field_validator("scope", mode="before")
    @classmethod
    def _one_scope(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class EffortConfig(Section):
    """The LLM's gradient norm on each sample."""

    scope: Literal["last_v", "all"] = "last_v"
    tokens: Literal["response", "all"] = "response"
    candidates: Annotated[float, Field(gt=0, le=1)] | Literal["all"] = Field(
        "all", description="Share of the samples to score, drawn within strata of influence."
    )
    batch_tokens: PositiveInt = Field(2048, description="Tokens in a batch, padding included.")
    max_nonfinite: Share = 0.0


#: Settings of `select` under one name; "paper" is DEALRec as published (Lin et al., SIGIR 2024).
SELECT_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "method": "dealrec",
        "influence": "scores",
        "normalise": "minmax",
        "lambda": 0.5,
        "hard_prune": 0.1,
        "strata": 50,
        "sampling": "strata",
    },
}


class SelectConfig(BuiltInSettings):
    """How scores become a coreset.

    The section also has the keys of `BuiltInSettings`, for every built-in selector that uses them.
    """

    preset: Literal["paper"] | None = Field(None, description="paper: DEALRec as published, whatever the defaults are.")
    method: str = Field("dealrec", description="A selector of docs/METHOD.md, or module:Class of your own.")
    size: float = Field(0.02, gt=0, description="A share of the samples (below 1) or a count.")
    influence: Literal["scores", "reference"] = Field(
        "scores",
        description="Risk of the influence: scores, that of the stage influence; reference, that of select.reference.",
    )
    reference: Literal["valid"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "valid", description="The aim of the selection: validation, or this last share of the train samples by time."
    )
    reference_users: Literal["all", "half"] = Field(
        "all", description="The validation users that are aimed at; with half, the others can choose among methods."
    )
    seed: int = 0
    # Left out if empty, so that runs from before this key keep their fingerprints.
    settings: dict[str, Any] = Field(
        {}, description="Settings of the selector by name.", exclude_if=lambda value: not value
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        """Add the preset's values to the given ones. Raises `ValueError` if a given value contradicts the preset."""
        preset = SELECT_PRESETS.get(str(values.get("preset"))) if isinstance(values, dict) else None
        if preset is None:
            return values
        settings = values.get("settings")
        inner = settings if isinstance(settings, dict) else {}
        for key, value in preset.items():
            if values.get(key, value) != value or inner.get(key, value) != value:
                raise ValueError(f"preset {values['preset']} means {key}: {value}; leave out one of the two")
        return {**preset, **values}

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        from scoring.selection import METHODS, is_own, selector

        if value not in METHODS and not is_own(value):
            raise ValueError(
                f"'{value}' is not a selector; there are {', '.join(sorted(METHODS))}, and module:Class of your own"
            )
        selector(value)
        return value

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check that the selector has these settings, and that no flat key of the section contradicts them."""
        method = info.data.get("method")
        if method is None:
            return value
        beside = _beside(method, info.data)
        for key, flat in beside.items():
            if value.get(key, flat) != flat:
                raise ValueError(f"{key} is {value[key]} here, and select.{key} is {flat}; leave out one of them")
        from scoring.selection import selector
        from scoring.selectors.selector_settings import read_settings

        read_settings(selector(method).Settings, {**beside, **value})
        return value

    @model_validator(mode="after")
    def _whole_count(self) -> SelectConfig:
        checked_size(self.size)
        return self

    def selector_settings(self) -> dict[str, Any]:
        """Return the selector's settings: flat keys that differ from their defaults, then `settings`."""
        flat = {key: getattr(self, key) for key in BuiltInSettings.model_fields}
        return {**_beside(self.method, flat), **self.settings}


def _beside(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a selector that the section's flat keys give."""
    from scoring.selection import selector

    known, found = selector(method).Settings.names(), {}
    for key, field in BuiltInSettings.model_fields.items():
        name = field.alias or key
        if name in known and key in values and values[key] != field.default:
            found[name] = values[key]
    return found


#: The largest number of titles for `evaluate.decoding: likelihood`, unless the config gives another.
LIKELIHOOD_TITLES = 5000
#: The number of beams by decoding, unless the config gives another.
BEAMS: Mapping[str, int] = {"free": 4, "constrained": 10}


class EvaluateConfig(Section):
    """All-ranking on the test users."""

    users: PositiveInt | Literal["all"] = "all"
    # Left out at its default, so that runs from before this key keep their fingerprints.
    cutoffs: tuple[PositiveInt, ...] = Field(
        CUTOFFS,
        description="Lengths of the lists to measure; the longest list of each ranking is kept.",
        exclude_if=lambda value: value == CUTOFFS,
    )
    decoding: Literal["free", "constrained", "likelihood"] = Field(
        "free",
        description="free: BIGRec's, a generated text and the titles near it; constrained: a search of the most "
        "probable titles, then those near the first; likelihood: every title by its probability.",
    )
    beams: PositiveInt = Field(
        BEAMS["free"],
        description="Beams of the search; by default 4 for free, 10 for constrained. Likelihood has none.",
    )
    # The next three are left out at their defaults, so that runs from before these keys keep their fingerprints.
    length_penalty: Annotated[float, Field(ge=0)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Sums of log-probabilities are divided by length to this power; None is 1 for free, as in BIGRec, "
        "and 0 for the others, which keeps probabilities.",
    )
    prior_correction: float = Field(
        0.0,
        ge=0,
        exclude_if=lambda value: value == 0,
        description="How many times a title's log-probability without a history is subtracted; not for free decoding.",
    )
    likelihood_titles: PositiveInt = Field(
        LIKELIHOOD_TITLES,
        exclude_if=lambda value: value == LIKELIHOOD_TITLES,
        description="Most titles of a catalogue that likelihood accepts.",
    )
    max_new_tokens: PositiveInt = Field(32, description="Most tokens of a free text; constrained takes whole titles.")
    mask_seen: bool = True
    baselines: bool = Field(
        True, description="Also rank by the untuned LLM, the surrogate, popularity and the similarity of titles."
    )
    batch_tokens: PositiveInt = Field(
        4096, description="Prompt tokens in a batch, times beams if the beams cannot share their prompt."
    )
    seed: int = 0

    @field_validator("cutoffs", mode="before")
    @classmethod
    def _one_cutoff(cls, value: object) -> object:
        values = (value,) if isinstance(value, int) else value
        if isinstance(values, list | tuple) and any(isinstance(entry, bool) for entry in values):
            raise unmet("a list of whole numbers")
        return values

    @field_validator("cutoffs")
    @classmethod
    def _in_order(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or len(set(values)) < len(values):
            raise unmet("a list of one or more different values")
        return tuple(sorted(values))

    @model_validator(mode="before")
    @classmethod
    def _with_beams(cls, values: Any) -> Any:
        """Fill in the beams of the decoding where the user gives none."""
        if not isinstance(values, dict) or values.get("beams") is not None:
            return values
        return {**values, "beams": BEAMS.get(str(values.get("decoding")), BEAMS["free"])}

    def power_of_length(self) -> float:
        """Return the length penalty of this decoding."""
        if self.length_penalty is None:
            return float(self.decoding == "free")
        return self.length_penalty


class AuditConfig(Section):
    """What `dealrec audit` tries: every solver with every scope and damping, against retrained surrogates."""

    solvers: tuple[SolverName, ...] = ("none", "cg", "ekfac")
    scopes: tuple[str, ...] | None = Field(
        None, description="Names of the surrogate's scopes, or patterns; None is its default.", min_length=1
    )
    dampings: tuple[Annotated[float, Field(gt=0)], ...] = Field((1e-3, 1e-2, 1e-1), min_length=1)
    subsets: Annotated[int, Field(ge=3)] = Field(32, description="Surrogates retrained on random subsets.")
    removed: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="Share of the samples each lacks.")
    queries: PositiveInt = Field(32, description="Number of groups of users whose risks are predicted and measured.")
    extreme: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="Share taken from a score's top and bottom.")
    draws: PositiveInt = Field(3, description="Number of random removals of that share to compare with.")
    planted: Annotated[float, Field(gt=0, le=0.5)] = Field(0.05, description="Share of samples given another's target.")
    released_steps: PositiveInt = Field(5000, description="Single-sample steps of the released code's LiSSA.")
    seed: int = 0

    @field_validator("solvers", "scopes", "dampings")
    @classmethod
    def _all_different(cls, values: tuple[str | float, ...] | None) -> tuple[str | float, ...] | None:
        """Check that no two values have the same name in the results, where numbers have six digits."""
        names = [f"{value:g}" if isinstance(value, float) else value for value in values or ()]
        if len(set(names)) < len(names):
            raise unmet("a list of different values")
        return values


class NodeGroupConfig(Section):
    """Equal nodes that an autoscaler may bring up."""

    max_nodes: PositiveInt = Field(description="Most nodes of this kind, including those that are running.")
    cpus: Annotated[int, Field(ge=0)] = Field(description="Logical CPUs of each node.")
    gpus: Annotated[int, Field(ge=0)] = 0
    memory: Annotated[float, Field(ge=0)] = Field(0.0, description="GiB of memory of each node; 0 is unknown.")


class ClusterConfig(Section):
    """Where a run works. Nothing here is in a stage's fingerprint: at most rounding in training depends on it."""

    address: str | None = Field(None, description="'auto' or 'host:port'; None is RAY_ADDRESS, else embedded.")
    actors: PositiveInt | None = Field(None, description="Number of scoring workers; None is as many as fit.")
    cpus: PositiveInt | None = Field(None, description="CPUs of an embedded Ray.")
    gpus: Annotated[int, Field(ge=0)] | Literal["auto"] = Field("auto", description="GPUs for the LLM stages.")
    node_groups: tuple[NodeGroupConfig, ...] | None = Field(
        None, description="What the cluster may grow to, if its autoscaler does not say; None asks the autoscaler."
    )
    wait_seconds: float = Field(
        900.0, ge=0, description="How long a stage waits for nodes that it needs to begin or to continue."
    )
    cpu_price: float = Field(0.0, ge=0, description="Price of a CPU for an hour, for `dealrec plan`.")
    gpu_price: float = Field(0.0, ge=0, description="Price of a GPU for an hour, for `dealrec plan`.")


class Config(Section):
    """The configuration of a whole run."""

    data: DataConfig
    samples: SamplesConfig = SamplesConfig()
    surrogate: SurrogateConfig = SurrogateConfig()
    influence: InfluenceConfig = InfluenceConfig()
    effort: EffortConfig = EffortConfig()
    select: SelectConfig = SelectConfig()
    llm: LlmConfig = LlmConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    audit: AuditConfig = AuditConfig()
    cluster: ClusterConfig = ClusterConfig()
    track: tuple[Literal["mlflow", "wandb", "trackio", "tensorboard"], ...] = Field(
        (), description="Experiment trackers that follow the run; they change no result."
    )

    @field_validator("track", mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        names = (value,) if isinstance(value, str) else value
        return tuple(dict.fromkeys(names)) if isinstance(names, list | tuple) else names

    @model_validator(mode="after")
    def _published_influence(self) -> Config:
        if self.select.preset == "paper" and self.influence.target != "train":
            raise ValueError("select.preset paper scores the influence on the train risk; leave out influence.target")
        return self
