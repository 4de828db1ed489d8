"""Checks: what is looked at before the first stage, by `run` and by `doctor` alike."""

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
    stages : names of the stages that are to run; no check speaks of another.
    run : the run directory; None where there is none yet.
    selections : the selections that are to be made, several in a comparison.
    view : what the connected Ray has, or what an embedded one would have; None before that is known.
    """

    config: Config
    stages: tuple[str, ...]
    run: Storage | None = None
    selections: tuple[SelectConfig, ...] = ()
    view: ClusterView | None = None

    @cached_property
    def embedded(self) -> bool:
        """Whether the run starts a Ray of its own on this machine."""
        return is_embedded(self.config.cluster.address)

    @cached_property
    def nodes(self) -> list[NodeFacts]:
        """What each living node of the connected cluster says of itself; asked once."""
        return inspect_nodes()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of the LLM; loaded once. Raises `UserError` if it cannot be."""
        from pipeline.stages.finetune_stage import llm_spec
        from training.llm.loading import load_tokenizer

        return load_tokenizer(llm_spec(self.config))


Answer = str | Finding | Sequence[Finding]


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes
    ----------
    what : its name in the table of `doctor`.
    look : says what it found, or raises `UserError`; a check of several things gives a finding for each.
    stages : it matters to these; None is any.
    where : whether it can be made of the subject at all.
    after : checks whose failure makes this one meaningless.
    """

    what: str
    look: Callable[[Subject], Answer]
    stages: frozenset[str] | None = None
    where: Callable[[Subject], bool] = lambda subject: True
    after: tuple[str, ...] = ()

    def concerns(self, subject: Subject) -> bool:
        """Whether one of the stages that are to run needs it."""
        return (self.stages is None or bool(self.stages & set(subject.stages))) and self.where(subject)

    def findings(self, subject: Subject) -> list[Finding]:
        """What it finds; a `UserError` becomes a lack."""
        try:
            answer = self.look(subject)
        except UserError as error:
            return [Finding(self.what, "-", error.message.rstrip("."), error.remedy)]
        if isinstance(answer, str):
            return [Finding(self.what, answer)]
        return [answer] if isinstance(answer, Finding) else list(answer)


def findings(checks: Iterable[Check], subject: Subject) -> list[Finding]:
    """The findings of all checks that concern the subject, in order."""
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
