"""The stage that a comparison by proxies adds to a run: the LLM's embeddings of all titles."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.digest import json_digest
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import config_part, model_identity
from pipeline.engine.graph import Graph, Stage, StageContext
from pipeline.stages.stage_list import STAGES, TITLE_EMBEDDINGS, llm_files

#: The keys that decide the embeddings besides the model, and which titles are cut.
TITLE_KEYS = ("llm.dtype", "llm.template", "llm.max_tokens", "llm.long_titles", "llm.max_title_tokens")


def run_title_embeddings(context: StageContext) -> Mapping[str, object]:
    """Embed the titles where the evaluation looks for them too; a killed pass resumes with its missing parts.

    Writes `titles.json`, which names the folder of the embeddings.
    """
    from pipeline.stages.evaluate_stage import embed_titles, title_folder
    from pipeline.stages.prompt_titles import llm_titles

    found = llm_titles(context.config, context.folder("ingest"))
    titles = found.titles[1:]
    _, seconds = embed_titles(context, titles)
    place = title_folder(context.config, context.run, titles).uri.rsplit("/", 1)[-1]
    context.out.write_json("titles.json", {"folder": place, "titles": len(titles)})
    return {"titles": len(titles), "busy_seconds": seconds, **found.facts()}


def _variant(config: Config, contents: Mapping[str, str | None]) -> str:
    settings = [config_part(config, TITLE_KEYS), model_identity(config.llm.model)]
    return f"titles-{json_digest([settings, dict(contents)])[:12]}"


TITLE_EMBEDDINGS_STAGE = Stage(
    name=TITLE_EMBEDDINGS,
    command=None,
    folder="embeddings",
    needs=("ingest",),
    keys=TITLE_KEYS,
    version=1,
    work=run_title_embeddings,
    sources=llm_files,
    unit="parts",
    variant=_variant,
)


def title_graph(config: Config, run: Storage) -> Graph:
    """Return the graph of this stage and of the ingest that it needs."""
    return Graph((STAGES[0], TITLE_EMBEDDINGS_STAGE), config, run)
