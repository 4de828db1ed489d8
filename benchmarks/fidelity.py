"""Fidelity of the default score against the released code's recipe, on the same retrained surrogates.

    python -m benchmarks.fidelity CONFIG --run-dir DIR

It audits like `dealrec audit CONFIG`, reusing what the run directory already has. Then it prints linear datamodeling
scores with intervals, for the solver, scope and damping of `influence` (which `audit` must include) and for the
released recipe. The bar: the first score is above the second, with disjoint intervals. The default score must also tell
wrong targets from right ones: its AUC has an interval above one half.
"""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

from cluster.storage import Storage
from pipeline.cli.main import main as dealrec
from pipeline.engine.config import AuditConfig
from pipeline.engine.config_file import load_config
from pipeline.stages.influence_solve import solver_settings
from pipeline.studies.audit.audit_arms import ScoreSpec
from pipeline.studies.audit.audit_scopes import audit_scopes
from pipeline.studies.audit.audit_stage import RESULT
from scoring.datamodeling import Estimate

#: A row of the audit's table, as JSON.
AuditRow: TypeAlias = dict[str, Any]


def audit(config_file: str, run: str) -> tuple[AuditRow, AuditRow]:
    """Run the audit, and return the rows of the configured score and of the released recipe."""
    code = dealrec(["audit", config_file, "--run-dir", run])
    if code:
        raise SystemExit(code)
    influence, folder = load_config(config_file, []).influence, Storage.at(run)
    [scope] = influence.scope or audit_scopes(AuditConfig(), folder.child("surrogate"))
    wanted = ScoreSpec(influence.solver, scope, solver_settings(influence)).label
    rows = {row["label"]: row for row in folder.child("audit").read_json(RESULT)["scores"]}
    if wanted not in rows:
        raise SystemExit(f"the audit has no {wanted}, which influence uses; it has {', '.join(rows)}")
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
        verdict = "above, disjoint" if one.apart_from(other) and one.value > other.value else "not disjoint"
        print(f"{measure:<9}  {label} {_text(one)}  released {_text(other)}  {verdict}")
    if ours["auc"]:
        print(f"auc        {label} {_text(Estimate(**ours['auc']))}  bar: interval above 0.5")
    print(f"seconds    {label} {ours['seconds']:.1f}  released {released['seconds']:.1f}")


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


if __name__ == "__main__":
    main()
