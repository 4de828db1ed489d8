from __future__ import annotations

import pytest

from pipeline.api.python_wording import for_python


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Choose another --run-dir.", "Choose another run_dir."),
        ("--from select comes after --until ingest.", "from_ select comes after until ingest."),
        ("--format xyz: no format xyz.", "formats xyz: no format xyz."),
        ("Give it by --arms-at-once, or --set a.b=1.", "Give it by arms_at_once, or overrides a.b=1."),
        (
            "Recompute by `dealrec run CONFIG --run-dir /a/b --from select`, or `dealrec run CONFIG --fresh`",
            "Recompute by `dealrec.run(config, run_dir='/a/b', from_='select')`, or `dealrec.run(config, fresh=True)`",
        ),
        ("Run `dealrec ingest CONFIG` first.", "Run `dealrec.run(config, until='ingest')` first."),
        ("Start one with `ray start --head`.", "Start one with `ray start --head`."),
        ("Follow it with `dealrec logs JOB --address URL`.", "Follow it with `dealrec.logs(job, address='URL')`."),
        ("List them with `dealrec jobs --address URL`.", "List them with `dealrec.jobs(address='URL')`."),
        ("a well-known low--high range", "a well-known low--high range"),
    ],
)
def test_options_become_arguments_and_commands_calls(said: str, meant: str) -> None:
    assert for_python(said) == meant
