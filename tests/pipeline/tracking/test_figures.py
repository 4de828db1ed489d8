from pathlib import Path

from cluster.storage import Storage
from pipeline.engine.manifest import Fingerprint, Manifest
from pipeline.tracking.figures import config_params, stage_figures
from tests.pipeline.tracking.staged_run import tracked_config


def manifest(stage: str, **facts: object) -> Manifest:
    return Manifest(stage, Fingerprint({}, {}, 1), "", [], facts, 2.5, 1)


def test_counts_are_numbers_by_names_that_trackers_accept(tmp_path: Path) -> None:
    facts = manifest(
        "ingest", users=3, split="global_time", flag=True, nan=float("nan"), rows={"train": 2, "for test": 1}
    )
    (figures,) = stage_figures("ingest", Storage.at(tmp_path), facts)
    assert figures.values == {"users": 3, "rows.train": 2, "rows.for_test": 1, "seconds": 2.5, "attempts": 1}


def test_the_tuned_model_has_one_name_whatever_chose_its_coreset(tmp_path: Path) -> None:
    interval = {"mean": 0.2, "low": 0.1, "high": 0.3, "users": 9}
    models = {"LLM, tuned on ccs coreset": {"ndcg@10": interval}, "title similarity": {"recall@5": interval}}
    run = Storage.at(tmp_path)
    lists = {"LLM, tuned on ccs coreset": {"coverage@10": 0.5, "outside": 0.25}}
    run.write_json("metrics.json", {"focus": "LLM, tuned on ccs coreset", "models": models, "lists": lists})
    _, figures = stage_figures("evaluate", run, manifest("evaluate"))
    assert figures.values == {
        "tuned/ndcg_at_10": 0.2,
        "tuned/ndcg_at_10_low": 0.1,
        "tuned/ndcg_at_10_high": 0.3,
        "tuned/coverage_at_10": 0.5,
        "tuned/outside": 0.25,
        "title_similarity/recall_at_5": 0.2,
        "title_similarity/recall_at_5_low": 0.1,
        "title_similarity/recall_at_5_high": 0.3,
    }


def test_parameters_are_the_config_by_its_keys() -> None:
    params = config_params(tracked_config("mlflow", size=0.1))
    assert params["select.size"] == "0.1"
    assert params["select.lambda"] == "0.5"
    assert params["data.columns.user"] == "None"
    assert params["data.interactions"] == "s3://***@bucket/log"
