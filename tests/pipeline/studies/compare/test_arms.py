import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.config_file import parse_config
from pipeline.stages.selection_needs import SelectionNeeds
from pipeline.stages.stage_list import shared_stages
from pipeline.studies.compare.arms import Arm, Request, arm_config, arm_graph
from pipeline.studies.compare.run_comparison import PROXY_NAMES
from training.loops.proxy_model import PROXIES

OWN = "tests.own_selectors:"
AIMED = "dealrec+influence=reference"


def config() -> Config:
    return parse_config(
        {"data": {"interactions": "x"}, "select": {"size": 64, "lambda": 0.3}, "finetune": {"seed": 7}}, "c"
    )


def test_random_has_several_draws_and_full_one_size() -> None:
    arms = Request(["dealrec", "random", "full"], seeds=2, sizes=[0.02, 256], draws=2).arms()
    names = [arm.name for arm in arms]
    assert len(names) == len(set(names)) == 4 + 8 + 2
    assert {"dealrec-n0.02-s0", "random-n256-s1", "random-n256-s1001", "full-nall-s1"} <= set(names)
    further = Arm("random", 256, 1001)
    assert (further.training_seed, further.draw) == (1, 1)


def test_no_two_sizes_share_a_name() -> None:
    sizes = [0.02, 1, 2_000_000, 2_000_001, 0.0200001]
    names = {arm.name for arm in Request(["random"], seeds=1, sizes=sizes).arms()}
    assert names >= {"random-n0.02-s0", "random-n1-s0", "random-n2000000-s0", "random-n2000001-s0"}
    assert len(names) == 5


def test_arms_keep_their_names_when_more_is_asked_for() -> None:
    few = Request(["random"], seeds=2, sizes=[64], draws=1).arms()
    many = Request(["top", "random"], seeds=5, sizes=[64, 128], draws=3).arms()
    assert set(few) <= set(many)


def test_fresh_seeds_are_other_arms() -> None:
    first, fresh = (Request(["random"], 2, [64], draws=2, first_seed=seed).arms() for seed in (0, 2))
    assert not set(first) & set(fresh)
    assert sorted({arm.training_seed for arm in fresh}) == [2, 3]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(["best"], 1, [64]), "no selector best"),
        (Request([], 1, [64]), "--selectors"),
        (Request(["dealrec+colour=red"], 1, [64]), "no setting colour"),
        (Request(["random+preset=paper"], 1, [64]), "preset paper means method: dealrec"),
        (Request(["dealrec+preset=paper+strata=9"], 1, [64]), "preset paper means strata: 50"),
        (Request(["dealrec+seed=1"], 1, [64]), "no setting seed"),
        (Request(["dealrec+strata=0"], 1, [64]), "strata must be at least 1, got 0"),
        (Request(["dealrec+strata"], 1, [64]), "cannot be read"),
        (Request(["full+strata=9"], 1, [64]), "full takes every sample"),
        (Request(["dealrec+preset=-"], 1, [64]), "preset: - is neither"),
        (Request(["dealrec+strata=2001-13-45"], 1, [64]), "strata: 2001-13-45 is neither"),
        (Request(["dealrec+strata=..."], 1, [64]), "strata: ... is neither"),
        (Request(["dealrec+strata=../3"], 1, [64]), "cannot be read"),
        (Request([f"{OWN}Newest+skip=2"], 1, [64]), "settings: skip must be below 1, got 2"),
        (Request([f"{OWN}Newest+colour=red"], 1, [64]), "no setting colour"),
        (Request([f"{OWN}Newest+lambda=0.1"], 1, [64]), "no setting lambda"),
        (Request([f"{OWN}Newest+preset=paper"], 1, [64]), "preset paper means method: dealrec"),
        (Request([f"{OWN}Newst"], 1, [64]), "has no class Newst"),
        (Request([f"{OWN}NoRank"], 1, [64]), "must define rank"),
        (Request(["no_such_module:Newest"], 1, [64]), "there is no module no_such_module"),
        (Request(["random"], 0, [64]), "--seeds must be from 1 to 999, got 0"),
        (Request(["random"], 1, [64], draws=0), "--draws must be from 1 to 999, got 0"),
        (Request(["random"], 1, [64], first_seed=-1), "--first-seed must be from 0 to 999, got -1"),
        (Request(["random"], 2, [64], first_seed=999), "reach seed 1000; the highest is 999"),
        (Request(["random"], 1, [1.5]), r"--sizes: .* got 1\.5"),
        (Request(["random"], 1, [64], control="top"), "--control top"),
        (Request(["random", "full"], 1, [64], control="full"), "--control full"),
        (Request(["random"], 1, [float("nan")]), "--sizes: .* got nan"),
    ],
)
def test_what_cannot_be_compared_is_the_users_fault(request_: Request, words: str) -> None:
    with pytest.raises(UserError, match=words):
        request_.arms()


def test_an_arm_differs_from_the_run_in_selection_and_seeds_alone() -> None:
    run, arm = config(), Arm("random", 128, 1002)
    made = arm_config(run, arm)
    assert (made.select.method, made.select.size, made.select.seed) == ("random", 128, 1002)
    assert made.select.lambda_ == 0.3
    assert made.finetune.seed == 9
    # Those who choose among selectors were not aimed at.
    assert (run.select.reference_users, made.select.reference_users) == ("all", "half")
    assert made.model_dump(exclude={"select", "finetune", "evaluate"}) == run.model_dump(
        exclude={"select", "finetune", "evaluate"}
    )
    assert arm_config(run, Arm("full", None, 0)).select.size == 64


def test_the_published_arm_is_not_scored_by_an_aimed_influence() -> None:
    aimed = parse_config({"data": {"interactions": "x"}, "influence": {"target": "valid"}}, "c")
    (arm,) = Request(["dealrec+preset=paper"], seeds=1, sizes=[64]).arms()
    with pytest.raises(UserError, match=r"influence\.target is valid"):
        arm_config(aimed, arm)


def test_a_variant_has_settings_of_its_own() -> None:
    (arm,) = Request(["dealrec+normalise=rank+lambda=0.7"], seeds=1, sizes=[64]).arms()
    made = arm_config(config(), arm).select
    assert (made.method, made.normalise, made.lambda_, made.strata) == ("dealrec", "rank", 0.7, 50)
    assert arm.name == "dealrec+normalise=rank+lambda=0.7-n64-s0"


def test_a_preset_is_an_arm_whatever_the_run_has() -> None:
    values = {"data": {"interactions": "x"}, "select": {"normalise": "rank", "strata": 9}}
    (arm,) = Request(["dealrec+preset=paper"], seeds=1, sizes=[64]).arms()
    made = arm_config(parse_config(values, "c"), arm).select
    assert (made.preset, made.normalise, made.strata) == ("paper", "minmax", 50)
    published = parse_config({"data": {"interactions": "x"}, "select": {"preset": "paper"}}, "c")
    assert arm_config(published, Arm("random", 64, 0)).select.preset is None


def test_a_selector_of_ones_own_is_an_arm_with_settings_of_its_own() -> None:
    names = [f"{OWN}Newest", f"{OWN}Newest+skip=0.5+strata=50", "random"]
    arms = Request(names, seeds=1, sizes=[64]).arms()
    assert arms[1].name == "tests.own_selectors.Newest+skip=0.5+strata=50-n64-s0"
    values = {"method": f"{OWN}Newest", "strata": 7, "settings": {"skip": 0.1}}
    run = parse_config({"data": {"interactions": "x"}, "select": values}, "c")
    plain, other, random = (arm_config(run, arm).select.selector_settings() for arm in arms)
    assert plain == {"skip": 0.1, "strata": 7}
    # Its own default of strata is another than that of the key beside.
    assert other == {"skip": 0.5, "strata": 50}
    assert random == {}
    assert arm_config(config(), arms[0]).select.selector_settings() == {}


def test_settings_of_the_runs_selector_are_not_those_of_another() -> None:
    run = parse_config({"data": {"interactions": "x"}, "select": {"settings": {"lambda": 0.1, "strata": 9}}}, "c")
    found = [
        arm_config(run, Arm(name, 64, 0)).select.selector_settings()
        for name in ("dealrec", "dealrec+lambda=0.7", "top", "dealrec+preset=paper")
    ]
    assert found == [{"lambda": 0.1, "strata": 9}, {"lambda": 0.7, "strata": 9}, {}, {}]


def test_keys_of_the_run_that_a_selector_cannot_take_are_the_users_fault() -> None:
    run = parse_config({"data": {"interactions": "x"}, "select": {"strata": 200}}, "c")
    with pytest.raises(UserError, match=r"--selectors tests.own_selectors:Few: settings: strata must be .* got 200"):
        arm_config(run, Arm(f"{OWN}Few", 64, 0))


def test_an_arm_of_ones_own_depends_on_its_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = Storage.at(tmp_path_factory.mktemp("arms"))
    graphs = [arm_graph(config(), run, Arm(name, 64, 0)) for name in (f"{OWN}Newest", "random")]
    own, built_in = (graph.stage("select").sources(graph.config) for graph in graphs)
    assert list(own) == ["selector code"]
    assert "hash" in str(own["selector code"])
    assert built_in == {}


@pytest.mark.parametrize(
    ("selectors", "stages"),
    [
        (["random", "full", "popularity", "density_ratio", "reference"], ["ingest"]),
        (["el2n"], ["ingest", "surrogate"]),
        (["random", "influence"], ["ingest", "surrogate", "influence"]),
        (["influence+influence=reference"], ["ingest", "surrogate"]),
        (["effort"], ["ingest", "effort"]),
        (["goracs"], ["ingest", "surrogate", "effort"]),
        (["dealrec"], ["ingest", "surrogate", "influence", "effort"]),
    ],
)
def test_only_the_stages_that_selectors_read_are_asked_for(selectors: list[str], stages: list[str]) -> None:
    configs = [arm_config(config(), Arm(name, 64, 0)) for name in selectors]
    assert [stage.name for stage in shared_stages(configs)] == stages


def test_an_arm_waits_for_what_its_selector_reads(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = Storage.at(tmp_path_factory.mktemp("arms"))
    graph = arm_graph(config(), run, Arm("goracs", 64, 0))
    needs = SelectionNeeds.of(graph.config)
    assert graph.stage("select").needs == needs.stages == ("ingest", "surrogate", "effort")
    assert graph.stage("select").derived == needs.feature_stages == ("embedding",)
    # A comparison recomputes none of what its arms share.
    assert graph.stage("embedding").command is None
    assert graph.stage("select").folder == "arms/goracs-n64-s0/coreset"
    assert "surrogate" not in graph.stage("evaluate").needs


def test_the_settings_of_influence_decide_an_arm_that_computes_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = Storage.at(tmp_path_factory.mktemp("arms"))
    keys = {name: arm_graph(config(), run, Arm(name, 64, 0)).stage("select").keys for name in ("dealrec", AIMED)}
    assert "influence" in keys[AIMED]
    assert "influence" not in keys["dealrec"]


def test_the_command_line_names_every_proxy() -> None:
    assert set(PROXY_NAMES) == set(PROXIES)
