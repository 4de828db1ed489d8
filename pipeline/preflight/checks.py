"""The checks that `run` and `doctor` make before the first stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cluster.errors import UserError
from cluster.machine_checks import Finding
from cluster.nodes import NodeFacts, inspect_nodes
from cluster.resources import ClusterView
from cluster.session import is_embedded
from cluster.storage import Storage
from pipeline.engine.config import Config, SelectConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Subject:
    """What the checks look at.

    Attributes
    ----------
    config : the configuration.
    stages : the names of the stages that will run; no check mentions another.
    run : the run directory; None if there is none yet.
    selections : the selections that will be made, several in a comparison.
    view : what the connected Ray has, or what an embedded one would have; None before that is known.
    """

    config: Config
    stages: tuple[str, ...]
    run: Storage | None = None
    selections: tuple[SelectConfig, ...] = ()
    view: ClusterView | None = None

    @cached_property
    def embedded(self) -> bool:
        """Tell whether the run starts its own Ray on this machine."""
        return is_embedded(self.config.cluster.address)

    @cached_property
    def nodes(self) -> list[NodeFacts]:
        """The facts that each living node of the connected cluster reports; asked once."""
        return inspect_nodes()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The LLM's tokenizer, loaded once. Raises `UserError` if it cannot be loaded."""
        from pipeline.stages.finetune_stage import llm_spec
        from training.llm.loading import load_tokenizer

        return load_tokenizer(llm_spec(self.config))


Answer = str | Finding | Sequence[Finding]


@dataclass(frozen=True)
class Check:
    """One thing to check.

    Attributes
    ----------
    what : the name of the check in the table of `doctor`.
    look : a function that returns what it found, or raises `UserError`; it returns one finding per thing it checks.
    stages : the stages that need the check; None stands for all.
    where : whether the check applies to the subject at all.
    after : the checks whose failure makes this one meaningless.
    """

    what: str
    look: Callable[[Subject], Answer]
    stages: frozenset[str] | None = None
    where: Callable[[Subject], bool] = lambda subject: True
    after: tuple[str, ...] = ()

    def concerns(self, subject: Subject) -> bool:
        """Return whether one of the stages that will run needs the check."""
        return (self.stages is None or bool(self.stages & set(subject.stages))) and self.where(subject)

    def findings(self, subject: Subject) -> list[Finding]:
        """Return what the check finds; a `UserError` becomes a lack."""
        try:
            answer = self.look(subject)
        except UserError as error:
            return [Finding(self.what, "-", error.message.rstrip("."), error.remedy)]
        if isinstance(answer, str):
            return [Finding(self.what, answer)]
        return [answer] if isinstance(answer, Finding) else list(answer)


def findings(checks: Iterable[Check], subject: Subject) -> list[Finding]:
    """Return the findings of all checks that concern the subject, in order."""
    found: list[Finding] = []
    failed: set[str] = set()
    for check in checks:
        if not check.concerns(subject):
            continue
        if failed & set(check.after):
            failed.add(check.what)
            continue
        made = check.findings(subject)
        found += made
        if any(finding.lack for finding in made):
            failed.add(check.what)
    return found
