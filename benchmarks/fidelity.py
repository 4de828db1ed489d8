"""Fidelity of the default score against the released code's recipe, on the same retrained surrogates.

    python -m benchmarks.fidelity CONFIG --run-dir DIR

It audits as `dealrec audit CONFIG` does (what is done in the run directory is not done again) and prints the linear
datamodeling scores with their intervals: of the solver, scope and damping of `influence`, which must be among those of
`audit`, and of the released recipe. The bar: the first above the second, intervals apart. A wrong target must be told
from a right one, too: an AUC with its interval above one half.
"""

from __future__ import annotations

import argparse
from typing import Any

from cluster.storage import Storage
from pipeline.cli.main import main as dealrec
from pipeline.engine.config import AuditConfig
from pipeline.engine.config_file import load_config
from pipeline.stages.influence_solve import solver_settings
from pipeline.studies.audit.audit_arms import ScoreSpec
from pipeline.studies.audit.audit_scopes import audit_scopes
from pipeline.studies.audit.audit_stage import RESULT
from scoring.datamodeling import Estimate


def audit(config_file: str, run: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of the configured score and of the released recipe."""
    code = dealrec(["audit", config_file, "--run-dir", run])
    if code:
        raise SystemExit(code)
    influence, folder = load_config(config_file, []).influence, Storage.at(run)
    [scope] = influence.scope or audit_scopes(AuditConfig(), folder.child("surrogate"))
    wanted = ScoreSpec(influence.solver, scope, solver_settings(influence)).label
    rows = {row["label"]: row for row in folder.child("audit").read_json(RESULT)["scores"]}
    if wanted not in rows:
        raise SystemExit(f"the audit has no {wanted}, which influence asks for; it has {', '.join(rows)}")
    return rows[wanted], rows["released"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--run-dir", required=True)
    arguments = parser.parse_args()
    ours, released = audit(arguments.config, arguments.run_dir)
    label = ours["label"]
    for measure in ("lds_train", "lds_valid", "lds_mean"):
        one, other = Estimate(**ours[measure]), Estimate(**released[measure])
        verdict = "above, apart" if one.apart_from(other) and one.value > other.value else "not apart"
        print(f"{measure:<9}  {label} {_text(one)}  released {_text(other)}  {verdict}")
    if ours["auc"]:
        print(f"auc        {label} {_text(Estimate(**ours['auc']))}  bar: interval above 0.5")
    print(f"seconds    {label} {ours['seconds']:.1f}  released {released['seconds']:.1f}")


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


if __name__ == "__main__":
    main()
