"""A fleet file becomes frozen values, with what it leaves out chosen by rule."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.slo import ServiceClass, Slo
from penstock.fleet.load import load_fleet, parse_fleet
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Choice
from penstock.fleet.values_traffic import TraceFile
from penstock.fleet.write import to_yaml
from penstock.perf.step_time.store import save_step_time
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.step_times import published_step_time
from penstock.workload.lengths import Fixed, LengthDistribution, QuantileTable

SMALL = """\
accelerators: [{name: a100-80gb}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 1}}]
traffic: [{trace: azure-2023-code, rate_per_s: 2}]
"""
TWO_CLASSES = SMALL.replace("[{name: chat, slo: {ttft_s: 1}}]", "[{name: chat}, {name: bulk}]"
                            ).replace("{trace:", "{mix: {chat: 0.5, bulk: 0.5}, trace:")


def test_the_least_file_gets_every_default() -> None:
    fleet = parse_fleet(SMALL, "path/to/my fleet.yaml")
    assert fleet.name == "my-fleet"
    pool = fleet.pool("a100-80gb")
    assert pool.count is None
    assert pool.price_per_hour == pool.accelerator.price_per_hour
    assert fleet.models[0].precisions == ("bf16",)
    assert fleet.service_classes == (ServiceClass("chat", Slo(ttft_s=1.0)),)
    spec = fleet.traffic[0]
    assert (spec.model, spec.mix, spec.arrivals) == ("llama-3-8b", {"chat": 1.0},
                                                     Choice("poisson"))
    assert (fleet.policies.schedule.policy, fleet.engine.name) == ("stock", "vllm")
    assert (fleet.engine.block_tokens, fleet.engine.memory_fraction) == (16, 0.92)
    assert fleet.run.seed == 0
    assert fleet.replicas == ()


def test_without_replicas_a_group_to_size_with_is_chosen() -> None:
    group, = parse_fleet(SMALL).sizing.groups
    assert (group.model.name, group.accelerator.name) == ("llama-3-8b", "a100-80gb")
    assert (group.count, group.parallelism, group.precision) == (1, Parallelism(), "bf16")
    assert group.service_classes is None


def test_a_large_model_gets_the_least_tensor_parallelism_that_holds_it() -> None:
    group, = parse_fleet(SMALL.replace("llama-3-8b", "llama-3-70b")).sizing.groups
    assert group.parallelism == Parallelism(2)


def test_the_first_accelerator_that_holds_the_model_is_chosen() -> None:
    text = SMALL.replace("{name: a100-80gb}", "{name: l40s, count: 1}, {name: a100-80gb}")
    small, = parse_fleet(text).sizing.groups
    large, = parse_fleet(text.replace("llama-3-8b", "llama-3-70b")).sizing.groups
    assert small.accelerator.name == "l40s"
    assert large.accelerator.name == "a100-80gb"


def test_variant_says_what_to_size_with() -> None:
    text = SMALL + "variant: {parallelism: {tensor: 2}, kv_precision: fp8}\n"
    group, = parse_fleet(text).sizing.groups
    assert (group.parallelism, group.kv_precision) == (Parallelism(2), "fp8")


def test_sizing_groups_make_silos() -> None:
    fleet = parse_fleet(TWO_CLASSES + """\
sizing:
  max_replicas: 9
  groups:
    - {classes: [chat], schedule: {name: sarathi, chunk_tokens: 256}, min_replicas: 2}
    - {classes: [bulk]}
""")
    chat, bulk = fleet.sizing.groups
    assert fleet.sizing.max_replicas == 9
    assert (chat.service_classes, chat.count) == (("chat",), 2)
    assert fleet.schedule_of(chat) == scheduler_options("sarathi", chunk_tokens=256)
    assert (bulk.service_classes, bulk.count) == (("bulk",), 1)
    assert fleet.schedule_of(bulk) == fleet.policies.schedule


def test_with_replicas_nothing_is_to_be_sized_unless_asked() -> None:
    fleet = parse_fleet(SMALL + "replicas: [{count: 3}]\n")
    assert [group.count for group in fleet.replicas] == [3]
    assert fleet.replicas[0].num_accelerators == 3
    assert fleet.sizing.groups == ()
    both = parse_fleet(SMALL + "replicas: [{count: 3}]\nvariant: {accelerator: a100-80gb}\n")
    assert len(both.sizing.groups) == 1


def test_the_engine_s_sequence_limit_reaches_every_schedule_but_an_explicit_one() -> None:
    fleet = parse_fleet(SMALL + """\
engine: {max_num_seqs: 64}
replicas: [{schedule: sarathi}, {schedule: {name: sarathi, max_num_seqs: 512}}]
""")
    assert fleet.policies.schedule.max_num_seqs == 64
    assert [fleet.schedule_of(group).max_num_seqs for group in fleet.replicas] == [64, 512]


def test_a_confidential_pool_marks_its_accelerator_and_its_replicas() -> None:
    fleet = parse_fleet(SMALL.replace("{name: a100-80gb}",
                                      "{name: h100-80gb, confidential: true}"))
    assert fleet.accelerators[0].accelerator.confidential
    assert fleet.sizing.groups[0].accelerator.confidential


def test_a_model_s_context_may_be_extended() -> None:
    text = SMALL.replace("azure-2023-code", "azure-2023-conv")
    with pytest.raises(InputError, match="context"):
        parse_fleet(text)
    longer = text.replace("{name: llama-3-8b}", "{name: llama-3-8b, max_context_tokens: 16384}")
    assert parse_fleet(longer).model("llama-3-8b").max_context_tokens == 16384


def test_kv_tokens_come_from_the_file_or_from_memory() -> None:
    fleet = parse_fleet(SMALL)
    computed = kv_tokens(fleet, fleet.sizing.groups[0])
    assert computed % 16 == 0
    assert 300_000 < computed < 500_000
    given = parse_fleet(SMALL + "engine: {kv_tokens: 410000}\n")
    assert kv_tokens(given, given.sizing.groups[0]) == 410_000


def test_lengths_may_be_spelt_out() -> None:
    fleet = parse_fleet(SMALL.replace(
        "trace: azure-2023-code", "lengths: {prompt: {fixed: 512}, output: "
        "{shares: [0, 0.5, 1], tokens: [1, 20, 300]}, rho: -0.2}"))
    assert fleet.traffic[0].lengths == LengthDistribution(
        Fixed(512), QuantileTable((0.0, 0.5, 1.0), (1.0, 20.0, 300.0)), -0.2)


@pytest.mark.parametrize("arrivals", [
    "constant", "{name: gamma, gap_cv: 2}", "{name: bursty, on_s: 5, off_s: 20}",
    "{name: ramp, start: 1, end: 3, over_s: 60}",
    "{name: square, low: 1, high: 3, low_s: 30, high_s: 30}",
    "{name: hourly, rates: [1, 2, 3], hour_s: 60}", "{name: diurnal, peak_to_mean: 1.5}",
])
def test_every_arrival_process_can_be_asked_for(arrivals: str) -> None:
    fleet = parse_fleet(SMALL.replace("rate_per_s", f"arrivals: {arrivals}, rate_per_s"))
    assert fleet.traffic[0].arrivals is not None
    assert fleet.traffic[0].arrivals.name in arrivals


def test_catalog_aliases_lead_to_the_catalog_s_names() -> None:
    text = SMALL.replace("llama-3-8b", "meta-llama/Meta-Llama-3-8B")
    fleet = parse_fleet(text.replace("a100-80gb", "A100-80GB"))
    assert fleet.models[0].spec.name == "llama-3-8b"
    assert fleet.traffic[0].model == "llama-3-8b"
    assert fleet.sizing.groups[0].accelerator.name == "a100-80gb"
    twice = text.replace("B}]", "B}, {name: llama-3-8b}]", 1)
    with pytest.raises(InputError, match="'llama-3-8b' appears twice"):
        parse_fleet(twice)


def test_files_are_found_beside_the_fleet_file_then_in_the_data_folder(tmp_path: Path) -> None:
    own, data = tmp_path / "own", tmp_path / "data"
    for folder in (own, data):
        folder.mkdir()
        (folder / "both.csv").touch()
    (data / "only.csv").touch()
    path = own / "fleet.yaml"
    for name, found in (("both.csv", own / "both.csv"), ("only.csv", data / "only.csv"),
                        (str(data / "both.csv"), data / "both.csv")):
        path.write_text(SMALL.replace("trace: azure-2023-code, rate_per_s: 2",
                                      f"trace: {{file: {name}}}"))
        fleet = load_fleet(path, data_dir=data)
        assert fleet.name == "fleet"
        assert fleet.traffic[0].lengths == TraceFile(str(found.resolve()))
        assert fleet.traffic[0].arrivals is None


@pytest.mark.parametrize(("entry", "part"), [
    ("{trace: {file: t.csv, shuffle: true}}", "cannot be shuffled"),
    ("{trace: {file: t.csv, arrivals: poisson, scale: 2}, rate_per_s: 1}", "set rate_per_s"),
    ("{trace: {file: t.csv, scale: 2}, rate_per_s: 1}", "keep one"),
    ("{trace: {file: t.csv}, arrivals: poisson, rate_per_s: 1}", "under trace.arrivals"),
    ("{trace: {file: t.csv, num_requests: 5}, num_requests: 6}", "keep one"),
    ("{trace: {file: t.csv, arrivals: poisson}}", "no rate_per_s"),
    ("{trace: {file: t.csv, format: xlsx}}", "unknown trace format 'xlsx'"),
])
def test_settings_of_a_trace_file_that_contradict_each_other(tmp_path: Path, entry: str,
                                                             part: str) -> None:
    (tmp_path / "t.csv").touch()
    text = SMALL.replace("{trace: azure-2023-code, rate_per_s: 2}", entry)
    with pytest.raises(InputError, match=part):
        parse_fleet(text, base=tmp_path)


def test_overrides_replace_add_and_extend_values_of_the_file() -> None:
    fleet = parse_fleet(SMALL, overrides={
        "traffic[0].rate_per_s": 7, "traffic.0.num_requests": 5, "run.seed": 3,
        "policies.schedule": "sarathi", "policies.schedule.chunk_tokens": 128,
        "replicas": [{"count": 2}]})
    assert (fleet.traffic[0].rate_per_s, fleet.traffic[0].num_requests) == (7.0, 5)
    assert fleet.run.seed == 3
    assert fleet.policies.schedule == scheduler_options("sarathi", chunk_tokens=128)
    assert fleet.replicas[0].count == 2


def test_an_override_leaves_an_alias_of_the_same_anchor_alone() -> None:
    text = SMALL.replace("[{trace: azure-2023-code, rate_per_s: 2}]",
                         "[&a {trace: azure-2023-code, rate_per_s: 2}, *a]")
    first, second = parse_fleet(text, overrides={"traffic[0].rate_per_s": 9}).traffic
    assert (first.rate_per_s, second.rate_per_s) == (9.0, 2.0)
    assert first.name != second.name


def test_text_may_come_as_bytes_with_a_byte_order_mark() -> None:
    assert parse_fleet(b"\xef\xbb\xbf" + SMALL.encode()) == parse_fleet(SMALL)


def test_a_hugging_face_config_describes_a_model_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, '
        '"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, '
        '"vocab_size": 1000, "max_position_embeddings": 8192}')
    text = SMALL.replace("{name: llama-3-8b}", "{name: mine, config: config.json}")
    model = parse_fleet(text, base=tmp_path).model("mine")
    assert (model.name, model.num_layers, model.hidden_size) == ("mine", 2, 64)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"fleet.yaml:2: models\[0\].config: "):
        parse_fleet(text, base=tmp_path)


def test_a_saved_fit_is_found_and_named_by_its_full_path(tmp_path: Path) -> None:
    save_step_time(published_step_time("vidur-a100-llama-3-8b"), tmp_path / "fit.yaml")
    for step_time in ("fit.yaml", "{kind: file, path: fit.yaml}"):
        fleet = parse_fleet(SMALL + f"replicas: [{{step_time: {step_time}}}]\n", base=tmp_path)
        assert str(tmp_path.resolve() / "fit.yaml") in str(fleet.replicas[0].step_time)
        assert parse_fleet(to_yaml(fleet), base="/") == fleet


def test_a_catalog_of_one_s_own_is_added(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "accelerators: {a100-80gb: {price_per_hour: 0.5}}\n")
    fleet = parse_fleet("catalog: mine.yaml\n" + SMALL, base=tmp_path)
    assert fleet.pool("a100-80gb").price_per_hour == 0.5
    assert parse_fleet(to_yaml(fleet), base="/") == fleet
    (tmp_path / "mine.yaml").write_text("accelerator: {}\n")
    with pytest.raises(InputError, match=r"mine\.yaml"):
        parse_fleet("catalog: mine.yaml\n" + SMALL, base=tmp_path)


@pytest.mark.parametrize(("count", "said"), [
    (2, None), (9, "the replicas up to here need 9 h100-80gb; the fleet has 8")])
def test_an_accelerator_may_have_another_of_its_names(count: int, said: str | None) -> None:
    overrides = {"accelerators": [{"name": "h100-sxm", "count": 8}],
                 "replicas": [{"accelerator": "h100-sxm", "count": count}]}
    if said is None:
        group, = parse_fleet(SMALL, overrides=overrides).replicas
        assert (group.accelerator.name, group.count) == ("h100-80gb", count)
        return
    with pytest.raises(InputError, match=said):
        parse_fleet(SMALL, overrides=overrides)
