"""Export the coreset for other tools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import UserError
from pipeline.api.calls import api_call
from pipeline.api.config_sources import Source, opened_task
from pipeline.api.masked_repr import MaskedRepr
from pipeline.driver.run_directory import open_run
from pipeline.export.exported_file import ExportedFile


@dataclass(frozen=True, repr=False)
class Export(MaskedRepr):
    """An export: the folder or URI that it lies in, and its files. `README.md` there says how to use them."""

    folder: str
    files: tuple[ExportedFile, ...]


def export(
    source: Source,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    formats: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    **sections: object,
) -> Export:
    """Write the coreset of a run as text and token ids, for fine-tuning with other tools.

    Parameters
    ----------
    source, run_dir, overrides, progress, sections : as for `dealrec.run`; the stage select must be complete.
    out : a folder or URI; None is the folder `export` of the run directory.
    formats : some of alpaca, sharegpt, messages, completions, tokens and parquet; None writes all.

    Raises `UserError` for a run without a coreset, an unknown format, and a folder that holds something else.

    Examples
    --------
    >>> written = dealrec.export(run, formats=["messages", "tokens"])
    >>> [file.file for file in written.files]
    ['messages.jsonl', 'tokens.parquet']
    """
    from pipeline.export.coreset_export import FORMATS, export_coreset

    with api_call(progress):
        names = list(FORMATS) if formats is None else list(dict.fromkeys(formats))
        unknown = [name for name in names if name not in FORMATS]
        if unknown or not names:
            raise UserError(
                f"--format {','.join(names)}: no format {', '.join(unknown)}.", f"There are {', '.join(FORMATS)}."
            )
        with opened_task(source, run_dir, overrides, sections, writes=False) as task:
            folder = open_run(os.fspath(out), "--out") if out else task.run.child("export")
            files = export_coreset(task.config, task.run, folder, names)
        return Export(folder.uri, tuple(files))
