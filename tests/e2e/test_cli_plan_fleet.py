"""``penstock plan FLEET`` and ``run`` on a fleet without replicas: output, files, exit status."""

import re

import orjson
import pytest
import yaml

from penstock.fleet.load import parse_fleet


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def plan(penstock):
    """Plans unsized.yaml without a page."""
    def call(*arguments, name="unsized.yaml"):
        return penstock("plan", name, "--no-report", *arguments)

    return call


@pytest.fixture
def planned(plan):
    """The plan's document."""
    return lambda *arguments: plan("--json", *arguments).json


def setting(*pairs):
    return [part for pair in pairs for part in ("--set", pair)]


IMPOSSIBLE = setting("service_classes[0].slo.ttft_s=0.0001")
NOTHING = [*IMPOSSIBLE, *setting("service_classes[1].slo.e2e_s=0.0001")]


def test_a_plan_is_json_and_the_one_that_was_written(plan, folder):
    outcome = plan("--json", "--out", "out")
    assert outcome.status == 0
    assert outcome.err == "files in out\n"
    assert files(folder / "out") == {"plan.json", "fleet.yaml"}
    assert orjson.loads((folder / "out/plan.json").read_bytes()) == outcome.json
    assert outcome.json["served_in_full"] is True
    assert outcome.json["cost_per_hour"] == pytest.approx(3.4309)
    assert outcome.json["demands"][0]["replicas"] == {"a100-80gb-bf16": 1}


def test_files_go_below_runs_by_default(plan, folder):
    assert plan("--json").err == "files in runs/small-plan\n"
    assert files(folder / "runs" / "small-plan") == {"plan.json", "fleet.yaml"}


def test_the_planned_fleet_is_a_fleet_that_meets_its_objectives(penstock, plan, folder):
    document = plan("--json", "--out", "out", *setting("traffic[0].rate_per_s=40")).json
    fleet = parse_fleet((folder / "out/fleet.yaml").read_text())
    assert [(g.accelerator.name, g.count) for g in fleet.replicas] == [
        (row["accelerator"], row["count"]) for row in document["replicas"]]
    run = penstock("run", "out/fleet.yaml", "--json", "--no-report", "--out", "run")
    assert run.status == 0
    assert run.json["overall"]["cost"]["per_hour"] == pytest.approx(document["cost_per_hour"])
    again = penstock("plan", "out/fleet.yaml", "--json", "--no-report", "--out", "again")
    assert again.json["changes"] == []


def test_equal_seeds_make_equal_plans_and_another_seed_another_trial(planned):
    def rates(*arguments):
        return [d["rate_per_s"] for d in planned(*arguments)["demands"]]

    assert rates("--seed", 3) == rates("--seed", 3) != rates("--seed", 4)


def test_equal_runs_write_equal_files_but_for_timing(penstock, folder):
    for name in ("a", "b"):
        assert penstock("plan", "unsized.yaml", "--json", "--out", name).status == 0
    for name in ("report.html", "fleet.yaml"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    one, other = (orjson.loads((folder / name / "plan.json").read_bytes()) for name in "ab")
    assert one.pop("timing")["solver_s"] > 0
    del other["timing"]
    assert one == other
    assert "changes" not in one


def test_what_cannot_be_served_is_status_1_with_everything_there(plan, folder):
    outcome = plan("--json", "--out", "out", *NOTHING)
    assert outcome.status == 1
    assert outcome.json["unserved"] == ["llama-3-8b"]
    assert files(folder / "out") == {"plan.json", "fleet.yaml"}
    reasons = {row["reason"] for row in outcome.json["not_considered"]}
    assert "misses the ttft target of chat even when idle" in reasons
    assert not parse_fleet((folder / "out/fleet.yaml").read_text()).replicas


def test_the_rest_is_still_planned(penstock, plan):
    outcome = plan("--json", "--out", "out", *IMPOSSIBLE, *setting("plan.pooling=class"))
    assert outcome.status == 1
    run = penstock("run", "out/fleet.yaml", "--json", "--no-report", "--out", "run")
    assert run.status == 0
    assert [list(one["mix"]) for one in run.json["fleet"]["traffic"]] == [["batch"]]
    assert outcome.json["unserved"] == ["llama-3-8b/chat"]
    assert [row["service_classes"] for row in outcome.json["replicas"]] == [["batch"]]


def test_a_second_plan_replaces_the_first(plan, folder):
    plan("--out", "out", "--json")
    assert plan("--out", "out", "--json", *IMPOSSIBLE).status == 1
    assert orjson.loads((folder / "out/plan.json").read_bytes())["unserved"]


def test_a_fleet_with_replicas_is_planned_from_them(plan):
    outcome = plan("--json", *setting("replicas[0].count=3"), name="fleet.yaml")
    assert outcome.json["changes"] == [{
        "demand": "llama-3-8b", "variant": "a100-80gb-bf16", "before": 3, "after": 1,
        "action": "stop", "num_replicas": 2}]


# -- run ---------------------------------------------------------------------------------------


def test_run_plans_a_fleet_that_states_no_replicas(penstock):
    outcome = penstock("run", "unsized.yaml", "--json", "--no-report")
    assert outcome.status == 0
    assert "sizing" not in outcome.json
    assert outcome.json["plan"]["served_in_full"] is True
    assert outcome.json["fleet"]["replicas"][0]["accelerator"] == "a100-80gb"


def test_a_run_and_its_plan_agree_on_cost_rate_and_bound(penstock):
    found = penstock("run", "unsized.yaml", "--json", "--no-report").json
    overall, plan = found["overall"], found["plan"]
    assert overall["cost"]["per_million_tokens"] == pytest.approx(plan["cost_per_million_tokens"])
    demand, = plan["demands"]
    assert demand["cost_per_million_tokens"] == plan["cost_per_million_tokens"]
    assert overall["throughput_bound_per_s"] == pytest.approx(demand["throughput_bound_per_s"])
    assert overall["bound_share"] == pytest.approx(
        overall["received_requests_per_s"] / overall["throughput_bound_per_s"])
    assert overall["bound_share"] == pytest.approx(demand["bound_share"], rel=0.1)


def test_run_of_a_planned_fleet_writes_equal_files_for_equal_seeds(penstock, folder):
    for name in ("a", "b"):
        penstock("run", "unsized.yaml", "--out", name, "--no-report")
    assert (folder / "a/summary.json").read_bytes() == (folder / "b/summary.json").read_bytes()


def test_run_of_a_plan_that_serves_nothing_misses(penstock):
    outcome = penstock("run", "unsized.yaml", "--json", "--no-report", *NOTHING)
    assert outcome.status == 1
    assert outcome.json["overall"]["rejected"] == 60
    assert outcome.json["plan"]["unserved"] == ["llama-3-8b"]


def test_run_says_why_nothing_is_served(penstock):
    outcome = penstock("run", "unsized.yaml", "--no-report", "--set", "engine.kv_tokens=1")
    assert outcome.status == 1
    assert outcome.out.startswith("Planned as no replicas: ")
    assert "Not considered" in outcome.out
    assert "longer than the KV" in outcome.out


def test_run_of_a_plan_that_serves_some_rejects_the_others(penstock):
    outcome = penstock("run", "unsized.yaml", "--json", "--no-report", *IMPOSSIBLE)
    assert outcome.status == 1
    assert outcome.json["plan"]["unserved"] == ["llama-3-8b/chat"]
    chat, batch = (outcome.json["classes"][name] for name in ("chat", "batch"))
    assert chat["rejected"] == chat["received"] > 0
    assert batch["rejected"] == 0
    assert chat["received"] + batch["received"] == 60


@pytest.mark.parametrize("section", ["variant: {accelerator: a100-80gb}\n",
                                     "sizing: {max_replicas: 4}\n"])
def test_run_sizes_where_the_file_asks_for_it(section, penstock, folder):
    text = (folder / "unsized.yaml").read_text()
    (folder / "sized.yaml").write_text(text + section)
    found = penstock("run", "sized.yaml", "--json", "--no-report").json
    assert found["sizing"]["chosen"] == 1
    assert "plan" not in found


# -- bad input ---------------------------------------------------------------------------------

PLANS = {
    "unknown key": ("plan.tensors=[1]", ["plan.tensors", "did you mean 'tensor'?"]),
    "unknown pooling": ("plan.pooling=modle", ["did you mean 'model'?"]),
    "pooling left empty": ("plan.pooling=null", ["model, class"]),
    "tensor degree of 0": ("plan.tensor=[0]", ["plan.tensor[0]", "at least 1", "found 0"]),
    "tensor degree as a number": ("plan.tensor=2", ["expected a list"]),
    "no tensor degree": ("plan.tensor=[]", ["plan.tensor", "empty list"]),
    "tensor degree twice": ("plan.tensor=[1,2,1]", ["plan.tensor[2]", "1 appears twice"]),
    "half a tensor degree": ("plan.tensor=[1.5]", ["a whole number"]),
    "huge tensor degree": ("plan.tensor=[10000000000]", ["at most"]),
    "no pipeline degree": ("plan.pipeline=[]", ["plan.pipeline", "empty list"]),
    "negative pipeline degree": ("plan.pipeline=[-1]", ["at least 1"]),
    "pipeline degree twice": ("plan.pipeline=[1,1]", ["appears twice"]),
    "unknown KV precision": ("plan.kv_precisions=[fp9]", ["did you mean 'fp8'?"]),
    "no KV precision": ("plan.kv_precisions=[]", ["plan.kv_precisions", "empty list"]),
    "KV precision twice": ("plan.kv_precisions=[fp8,fp8]", ["fp8 appears twice"]),
    "no step budget": ("plan.step_tokens=[]", ["plan.step_tokens", "empty list"]),
    "step budget of 0": ("plan.step_tokens=[0]", ["at least 1"]),
    "step budget twice": ("plan.step_tokens=[512,512]", ["512 appears twice"]),
    "mixed as a number": ("plan.mixed=1", ["true or false"]),
    "keep as text": ("plan.keep_accelerators=maybe", ["true or false"]),
    "budget of 0": ("plan.max_cost_per_hour=0", ["more than 0"]),
    "negative budget": ("plan.max_cost_per_hour=-5", ["more than 0"]),
    "NaN budget": ("plan.max_cost_per_hour=.nan", ["finite"]),
    "infinite power": ("plan.max_power_w=.inf", ["finite"]),
    "budget as text": ("plan.max_power_w=lots", ["a number", "'lots'"]),
    "negative start cost": ("plan.start_cost=-1", ["at least 0"]),
    "NaN stop cost": ("plan.stop_cost=.nan", ["finite"]),
    "no seed": ("plan.num_seeds=0", ["at least 1"]),
    "a billion seeds": ("plan.num_seeds=1000000000", ["at most 1,000"]),
    "plan as a list": ("plan=[]", ["expected a mapping"]),
    "count of 0": ("accelerators[0].count=0", ["accelerators[0].count", "at least 1"]),
    "an accelerator under two names": ("accelerators=[{name: a100-80gb}, {name: a100}]",
                                       ["accelerators[1].name", "appears twice"]),
    "NaN price": ("accelerators[0].price_per_hour=.nan", ["finite"]),
    "no precision": ("models[0].precisions=[]", ["models[0].precisions"]),
    "warm-up past the traffic": ("run.warmup_s=9999", ["run.warmup_s", "9999 s"]),
    "no rate": ("traffic[0].rate_per_s=0", ["more than 0"]),
}

FLAGS = {
    "neither": ([], "expected a fleet file or --inferno"),
    "both": (["unsized.yaml", "--inferno", "."], "not both"),
    "no such file": (["nowhere.yaml"], "nowhere.yaml: no such file"),
    "a solver of Inferno's": (["unsized.yaml", "--solver", "greedy"], "--solver"),
    "a saturation policy": (["unsized.yaml", "--saturation", "None"], "--saturation"),
    "a capacity factor": (["unsized.yaml", "--capacity-factor", "0.5"], "--capacity-factor"),
    "a time limit": (["unsized.yaml", "--time-limit", "5"], "--time-limit"),
    "best effort": (["unsized.yaml", "--no-delayed-best-effort"], "delayed-best-effort"),
    "a seed for a bundle": (["--inferno", ".", "--seed", "1"], "--seed"),
    "a setting for a bundle": (["--inferno", ".", "--set", "run.seed=1"], "--set"),
    "a file as folder": (["unsized.yaml", "--out", "fleet.yaml"], "fleet.yaml: is a file"),
    "a folder with other files": (["unsized.yaml", "--out", "."], "holds other files"),
    "negative seed": (["unsized.yaml", "--seed", "-1"], "--seed"),
    "unknown option": (["unsized.yaml", "--jsno"], "did you mean '--json'?"),
    "a missing data folder": (["unsized.yaml", "--data", "nowhere"], "no such folder"),
    "a setting without a value": (["unsized.yaml", "--set", "plan"], "KEY=VALUE"),
}


@pytest.fixture
def fails(penstock, folder):
    """Runs a command line that must fail as promised, and gives its line."""
    def call(*arguments):
        before = sorted(folder.rglob("*"))
        outcome = penstock(*arguments)
        assert outcome.status == 2, outcome
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1
        assert outcome.out == ""
        assert sorted(folder.rglob("*")) == before
        return outcome.err

    return call


@pytest.mark.parametrize("name", PLANS)
def test_a_bad_value_is_named_with_what_was_expected(name, fails):
    value, words = PLANS[name]
    line = fails("plan", "unsized.yaml", "--out", "out", "--set", value)
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", FLAGS)
def test_a_bad_command_line_is_named(name, fails):
    arguments, words = FLAGS[name]
    assert words in fails("plan", *arguments)


def test_a_bad_plan_section_is_named_by_its_line(fails, folder):
    text = (folder / "unsized.yaml").read_text() + "plan:\n  pooling: class\n  tensor: [1, 1]\n"
    (folder / "bad.yaml").write_text(text)
    line = text.count("\n")
    assert f"bad.yaml:{line}: plan.tensor[1]: 1 appears twice" in fails("plan", "bad.yaml")


@pytest.mark.parametrize("command", [
    ("simulate", "--replicas", "2"), ("capacity", "--method", "bound"),
    ("capacity", "--replicas", "2"), ("capacity", "--method", "queue", "--replicas", "2"),
    ("compare", "--grid", "run.seed=1,2")])
def test_what_only_a_plan_may_help_is_refused_elsewhere(command, fails, folder):
    text = (folder / "unsized.yaml").read_text().replace("llama-3-8b", "llama-3.1-405b")
    (folder / "big.yaml").write_text(text)
    assert "does not fit: llama-3.1-405b" in fails(command[0], "big.yaml", *command[1:])


def test_a_class_that_has_no_traffic_is_not_an_error(planned):
    found = planned("--set", "plan.pooling=class", "--set", "traffic[0].mix={chat: 1.0}")
    assert [demand["name"] for demand in found["demands"]] == ["llama-3-8b"]
    assert [c["name"] for c in found["demands"][0]["classes"]] == ["chat"]


def test_a_missing_trace_leaves_nothing_behind(fails, folder):
    document = yaml.safe_load((folder / "unsized.yaml").read_text())
    document["traffic"] = [{"mix": {"chat": 1.0}, "trace": {"file": "t.csv"}}]
    (folder / "bad.yaml").write_text(yaml.safe_dump(document))
    assert "t.csv" in fails("plan", "bad.yaml")


def test_a_plan_that_is_cut_short_leaves_the_earlier_one_whole(plan, folder, monkeypatch):
    plan("--out", "out", "--json")
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penstock.plan.plan.Search", fail)
    outcome = plan("--out", "out", "--json")
    assert (outcome.status, outcome.err) == (
        2, "error: out: cannot be written (No space left on device)\n")
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


@pytest.mark.parametrize(("settings", "message"), [
    (["nonsense"], "--what-if 'nonsense': expected KEY=VALUE"),
    (["accelerators[0].cout=3"], "--what-if accelerators[0].cout: unknown key; did you mean"),
    (["accelerators[9].count=3"], "--what-if 'accelerators[9].count': '9' is no entry"),
    (["run.seed=["], "--what-if run.seed=[: not valid YAML"),
    (["run.seed=3", "run.seed=4"], "--what-if run.seed: appears twice")])
def test_a_wrong_what_if_is_reported_as_such(penstock, settings, message) -> None:
    done = penstock("plan", "unsized.yaml", *(
        text for setting in settings for text in ("--what-if", setting)))
    assert done.status == 2
    assert done.err.startswith("error: --what-if")
    assert message in done.err


def test_what_help_says_of_a_plan_is_so(penstock, repository) -> None:
    shown = " ".join(penstock("plan", "--help").out.replace("│", " ").split())
    assert "runs/<fleet name>-plan" in shown
    (bundle,) = re.findall(r"plan --inferno (\S+) --solver", shown)
    assert (repository / bundle).exists()
    done = penstock("plan", "unsized.yaml", "--no-report", "--json")
    assert done.err == "files in runs/small-plan\n"
