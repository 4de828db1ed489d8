"""Stages, their dependencies, and the rules by which one is skipped, resumed, refused or recomputed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.digest import json_digest
from cluster.errors import UserError
from cluster.masking import masked
from cluster.progress import LineProgress, Progress, ProgressGroup, format_seconds
from cluster.ray_metrics import StageMetrics
from cluster.shards import peak_memory
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.events import EventLog
from pipeline.engine.fingerprint import config_part, differing_keys
from pipeline.engine.manifest import (
    BEGUN,
    MANIFEST,
    Begun,
    Fingerprint,
    Manifest,
    environment,
    list_outputs,
    read_begun,
    read_manifest,
)
from pipeline.engine.watching import UNWATCHED, StageWatcher

log = logging.getLogger("dealrec.run")


@dataclass(frozen=True)
class StageContext:
    """What a stage is given: the configuration, the run, its folders, and a progress report."""

    config: Config
    run: Storage
    out: Storage
    folders: Mapping[str, Storage]
    progress: Progress

    def folder(self, stage: str) -> Storage:
        """Return the folder of a stage that this one needs."""
        return self.folders[stage]


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes
    ----------
    name, folder : its name, and the folder of its manifest and files, relative to the run.
    needs : the stages whose results it reads.
    derived : further stages whose results it reads. These results follow from the stage's own needs and keys, so its
        fingerprint leaves them out.
    keys : the sections or keys of the config that decide its result.
    version : a number that is raised whenever its code changes what it writes.
    work : the function that does the work and returns the facts for the manifest.
    subfolders : the folders of output files below `folder`.
    sources : a function that identifies inputs from outside the run.
    unit : the unit of its progress.
    elastic : the keys that may change before it is complete; it then continues from where it was.
    command : the command that recomputes it with `--from`; None if no command does.
    variant : a function that names a folder below `folder` from the config and the contents of what the stage needs
        (None while one is not complete). Results of several settings then lie side by side, and none is ever stale.
    """

    name: str
    folder: str
    needs: tuple[str, ...]
    keys: tuple[str, ...]
    version: int
    work: Callable[[StageContext], Mapping[str, object]]
    subfolders: tuple[str, ...] = ()
    sources: Callable[[Config], Mapping[str, object]] = lambda config: {}
    unit: str = "shards"
    elastic: tuple[str, ...] = ()
    command: str | None = "run"
    derived: tuple[str, ...] = ()
    variant: Callable[[Config, Mapping[str, str | None]], str] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """All stages whose results it reads."""
        return (*self.needs, *self.derived)


@dataclass(frozen=True)
class Graph:
    """The stages of a run, each after those it needs."""

    stages: tuple[Stage, ...]
    config: Config
    run: Storage

    def stage(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(f"There is no stage {name}.", f"The stages are {', '.join(s.name for s in self.stages)}.")

    def path(self, stage: Stage) -> str:
        """Return the folder of the stage's files, relative to the run."""
        if stage.variant is None:
            return stage.folder
        contents = {need: self._content(need) for need in stage.needs}
        return f"{stage.folder}/{stage.variant(self.config, contents)}"

    def folder(self, stage: Stage) -> Storage:
        return self.run.child(*self.path(stage).split("/"))

    def _content(self, name: str) -> str | None:
        """Return the content of a complete stage; None while it is not."""
        manifest = read_manifest(self.folder(self.stage(name)))
        return None if manifest is None else manifest.content

    def fingerprint(self, stage: Stage) -> Fingerprint | None:
        """Return the fingerprint of the stage's next result; None until all stages that it needs are complete."""
        inputs: dict[str, object] = dict(stage.sources(self.config))
        for need in stage.needs:
            content = self._content(need)
            if content is None:
                return None
            inputs[need] = content
        return Fingerprint(config_part(self.config, stage.keys), inputs, stage.version)

    def needed(self, names: Iterable[str]) -> list[Stage]:
        """Return the named stages and all that they depend on, in order."""
        return needed_stages(self.stages, [self.stage(name).name for name in names])

    def after(self, name: str) -> list[Stage]:
        """Return a stage and all that depend on it, in order."""
        names = {self.stage(name).name}
        for stage in self.stages:
            if names & set(stage.reads):
                names.add(stage.name)
        return [stage for stage in self.stages if stage.name in names]

    def incomplete(self, stages: Sequence[Stage]) -> list[Stage]:
        """Return those of the stages that are not complete."""
        return [stage for stage in stages if read_manifest(self.folder(stage)) is None]

    def discard(self, stages: Sequence[Stage]) -> None:
        """Delete the results of stages, manifests first, so that a kill in between leaves no stage falsely complete."""
        for stage in reversed(stages):
            folder = self.folder(stage)
            folder.delete(MANIFEST)
            folder.delete(BEGUN)
            folder.delete("")

    def check(self, stages: Sequence[Stage]) -> None:
        """Refuse a run directory that holds results of another configuration.

        Raises `UserError` that names the keys and both values.
        """
        for stage in stages:
            wanted = self.fingerprint(stage)
            # A stage that waits for another may come before one that does not.
            if wanted is not None:
                self._check_stage(stage, wanted)

    def _check_stage(self, stage: Stage, wanted: Fingerprint) -> None:
        folder = self.folder(stage)
        complete = read_manifest(folder)
        found = complete or read_begun(folder)
        if found is None or found.fingerprint.digest == wanted.digest:
            return
        free = () if complete else stage.elastic
        keys = differing_keys(_without(found.fingerprint.config, free), _without(wanted.config, free))
        keys += [
            key.replace(" was ", " changed: was ") for key in differing_keys(found.fingerprint.inputs, wanted.inputs)
        ]
        if found.fingerprint.version != wanted.version:
            keys.append(f"the stage's version was {found.fingerprint.version}, is {wanted.version}")
        if not keys:
            return
        raise UserError(
            f"{self.run.uri} holds results of stage {stage.name} for another config: {'; '.join(keys)}.",
            f"{self._recompute(stage)}, or choose another --run-dir.",
        )

    def _recompute(self, stage: Stage) -> str:
        """Return how to replace a stage's results.

        The command is written out in full, because the one that was given may lack its options.
        """
        if stage.command is None:
            return f"Remove {self.folder(stage).uri} to recompute it"
        return (
            f"Recompute with `dealrec {stage.command} CONFIG --run-dir {self.run.uri} --from {stage.name}`, start over "
            f"with `dealrec {stage.command} CONFIG --run-dir {self.run.uri} --fresh`"
        )

    def execute(self, stages: Sequence[Stage], events: EventLog, watcher: StageWatcher = UNWATCHED) -> dict[str, str]:
        """Run stages in order; complete ones are skipped. `watcher` is told of both.

        Returns
        -------
        "done" for each stage that ran, "complete" for each that was complete already.
        """
        states: dict[str, str] = {}
        for stage in stages:
            wanted = self.fingerprint(stage)
            if wanted is None:
                raise self._lacking(stage, stage.needs)
            self._check_stage(stage, wanted)
            manifest = read_manifest(self.folder(stage))
            if manifest is not None:
                log.info("%-10s complete", stage.name)
                watcher.complete(stage.name, self.folder(stage), manifest)
                states[stage.name] = "complete"
                continue
            if any(self._content(need) is None for need in stage.derived):
                raise self._lacking(stage, stage.derived)
            self._run_stage(stage, wanted, events, watcher)
            states[stage.name] = "done"
        return states

    def _lacking(self, stage: Stage, needs: Sequence[str]) -> UserError:
        missing = [need for need in needs if self._content(need) is None]
        verb = "is" if len(missing) == 1 else "are"
        return UserError(
            f"Stage {stage.name} needs {', '.join(missing)}, which {verb} not complete in {self.run.uri}.",
            f"Run `dealrec {missing[0]} CONFIG` first, or `dealrec run CONFIG` for all stages.",
        )

    def _run_stage(self, stage: Stage, fingerprint: Fingerprint, events: EventLog, watcher: StageWatcher) -> None:
        folder = self.folder(stage)
        earlier = read_begun(folder)
        attempts = earlier.attempts + 1 if earlier else 1
        seconds_before = earlier.seconds if earlier else 0.0
        shown, metrics = LineProgress(stage.name, stage.unit), StageMetrics(stage.name)
        context = StageContext(
            self.config,
            self.run,
            folder,
            {other.name: self.folder(other) for other in self.stages if other.name in stage.reads},
            ProgressGroup(shown, metrics, watcher.begun(stage.name)),
        )
        start = time.monotonic()
        try:
            Begun(fingerprint, attempts, seconds_before).write(folder)
            events.add("stage_begun", stage=stage.name, folder=self.path(stage), attempt=attempts)
            facts = stage.work(context)
        except BaseException as error:
            spent = seconds_before + time.monotonic() - start
            _record_end(stage, Begun(fingerprint, attempts, spent), folder, events, error)
            raise
        finally:
            shown.close()
            metrics.close()
        seconds = seconds_before + time.monotonic() - start
        outputs = list_outputs(folder, stage.subfolders)
        content = json_digest([[row["name"], row["digest"]] for row in outputs])
        made = Manifest(
            stage.name,
            fingerprint,
            content,
            outputs,
            facts,
            seconds,
            attempts,
            driver_memory=peak_memory(),
            environment=environment(),
        )
        made.write(folder)
        events.add("stage_done", stage=stage.name, attempt=attempts, seconds=round(seconds, 3))
        log.info("%-10s done in %s", stage.name, format_seconds(seconds))
        watcher.complete(stage.name, folder, made)


def needed_stages(stages: Sequence[Stage], names: Iterable[str]) -> list[Stage]:
    """Return the named stages and all that they depend on; `stages` must be in order of dependency."""
    wanted = set(names)
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.reads)
    return [stage for stage in stages if stage.name in wanted]


def _record_end(stage: Stage, begun: Begun, folder: Storage, events: EventLog, error: BaseException) -> None:
    """Record how a stage was cut short. If the storage is gone, that must not hide the cause."""
    kind = "stage_stopped" if isinstance(error, KeyboardInterrupt) else "stage_failed"
    try:
        begun.write(folder)
        events.add(kind, stage=stage.name, attempt=begun.attempts, error=masked(f"{type(error).__name__}: {error}"))
    except OSError as unwritten:
        log.warning("Could not record how %s ended: %s", stage.name, unwritten)


def _without(values: Mapping[str, object], keys: Sequence[str]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key not in keys}
