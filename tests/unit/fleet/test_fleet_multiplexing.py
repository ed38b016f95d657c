"""Devices that models take turns on, in a fleet file."""

import pytest

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.fleet.load import load_fleet, parse_fleet
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.values_multiplexing import DevicePool
from penstock.fleet.write import to_yaml
from penstock.perf.adapters import adapter_bytes
from penstock.policy.multiplex.values import BatchTime, HostedModel
from support.small_fleet import FLEET

TWO = {"models": [{"name": "llama-3-8b", "precisions": ["bf16", "int8"]}, {"name": "llama-2-7b"}],
       "traffic": [{"model": "llama-3-8b", "mix": {"chat": 1.0}, "rate_per_s": 1,
                    "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}},
                   {"model": "llama-2-7b", "mix": {"chat": 1.0}, "rate_per_s": 1,
                    "lengths": {"prompt": {"fixed": 4}, "output": {"fixed": 4}}}]}
VLLM = {"kind": "vllm", "endpoints": ["http://127.0.0.1:1"]}


def pools(*sections, replicas=None) -> tuple[DevicePool, ...]:
    return parse_fleet(FLEET, overrides={**TWO, "replicas": replicas,
                                         "multiplexing": list(sections)}).multiplexing


def both(**more):
    return {"models": [{"model": "llama-3-8b"}, {"model": "llama-2-7b"}], **more}


def test_what_is_left_out_follows_from_model_and_accelerator() -> None:
    pool, = pools(both())
    assert (pool.name, pool.count, pool.max_residents, pool.continuous) == ("a100-80gb", 1, None,
                                                                             True)
    assert pool.memory_bytes == int(80 * GIB * 0.9)
    llama = pool.models[0]
    assert llama.precision == "bf16"
    assert llama.size_bytes == llama.spec.weight_bytes("bf16")
    assert llama.load_s == pytest.approx(llama.size_bytes / pool.accelerator.pcie_bytes_per_s)
    # 128 steps that read 16 GB at 2 TB/s are about a second; a request adds far less.
    assert 0.8 < llama.batch.fixed_s < 2.5
    assert 0.0 < llama.batch.per_request_s < 0.2
    assert llama.engine is None


def test_everything_said_is_kept() -> None:
    pool, = pools({"name": "gpu", "count": 2, "memory_gib": 40, "max_residents": 1,
                   "batching": "static", "policy": {"name": "longest-queue"},
                   "load_attempts": 1, "models": [
                       {"model": "llama-3-8b", "precision": "int8", "size_gib": 9,
                        "request_gib": 0.5, "max_batch": 3, "e2e_s": 7, "min_share": 0.25,
                        "batch": {"fixed_s": 1, "per_request_s": 0.5}, "load_s": 4,
                        "engine": {"kind": "ollama", "endpoints": ["http://a:1/", "http://b:1"],
                                   "served_as": "llama3:8b"}}]})
    assert (pool.name, pool.count, pool.max_residents, pool.continuous) == ("gpu", 2, 1, False)
    assert pool.policy == "longest-queue"
    model = pool.models[0]
    assert model.hosted() == HostedModel("llama-3-8b", 9 * GIB, BatchTime(1, 0.5), GIB // 2, 3,
                                         0.25)
    assert (model.e2e_s, model.load_s) == (7, 4)
    assert model.engine is not None
    assert model.engine.endpoints == ("http://a:1", "http://b:1")


@pytest.mark.parametrize(("key", "value"), [
    ("engine.kv_tokens", 100), ("disaggregation", {"transfer": {"gb_per_s": 9}}),
    ("engine", {"prefix_caching": True, "kv_tiers": [
        {"name": "host", "gib": 9, "read_gb_per_s": 9}]})])
def test_what_counts_for_replicas_is_refused_where_all_models_share_devices(key, value):
    given = {**TWO, "multiplexing": [both()], key: value}
    with pytest.raises(InputError, match=r"counts for replicas.* all models share devices"):
        parse_fleet(FLEET, overrides={**given, "replicas": None})
    if key != "disaggregation":
        parse_fleet(FLEET, overrides={**given, "replicas": [{"model": "llama-2-7b"}]})


def test_room_for_adapters_is_memory_of_the_model() -> None:
    one, other = pools({"models": [{"model": "llama-3-8b", "lora": {"max_loras": 4}},
                                   {"model": "llama-2-7b"}]})[0].models
    assert (one.lora, other.lora) == (LoraOptions(4), None)
    places = 4 * adapter_bytes(one.spec, 16)
    assert one.size_bytes == one.spec.weight_bytes("bf16") + round(places)
    assert other.size_bytes == other.spec.weight_bytes("bf16")


def test_a_pool_with_room_for_adapters_is_written_back() -> None:
    overrides = {**TWO, "replicas": None, "multiplexing": [
        {"models": [{"model": "llama-3-8b", "lora": {"max_loras": 2, "max_cpu_loras": 5}}]}]}
    overrides["models"] = [{"name": "llama-3-8b", "adapters": [{"name": "sql", "rank": 8}]}]
    overrides["traffic"] = [{**TWO["traffic"][0], "adapters": {"zipf": 1}}]
    fleet = parse_fleet(FLEET, overrides=overrides)
    assert parse_fleet(to_yaml(fleet), "small") == fleet
    overrides["multiplexing"] = [{"models": [{"model": "llama-3-8b"}]}]
    with pytest.raises(InputError, match=r"no engine of llama-3-8b takes adapters; expected "
                                         r"replicas\[\].lora or multiplexing\[\].models\[\].lora"):
        parse_fleet(FLEET, overrides=overrides)


def test_models_that_take_turns_need_no_replicas() -> None:
    fleet = parse_fleet(FLEET, overrides={**TWO, "replicas": None, "multiplexing": [both()]})
    assert fleet.replicas == fleet.sizing.groups == ()


@pytest.mark.parametrize(("section", "said"), [
    ({"models": [{"model": "llama-3-9b"}]}, "unknown model 'llama-3-9b'"),
    ({"models": [{"model": "llama-3-8b"}] * 2},
     "multiplexing[0].models[1].model: 'llama-3-8b' appears"),
    ({"models": []}, "expected at least one entry"),
    (both(accelerator="a100"), "did you mean 'a100-80gb'?"),
    (both(policy="penstok"), "did you mean 'penstock'?"),
    (both(policy={"name": "penstock", "nonsense": 1}), "no setting of this name"),
    (both(memory_gib=90), "90 is more than the 80 GiB of a100-80gb"),
    (both(batching="static", models=[{"model": "llama-3-8b", "lora": {}}]),
     "multiplexing[0].models[0].lora: static batches have no adapters"),
    (both(memory_gib=10), "multiplexing[0].models[0]: llama-3-8b needs 14.96 GiB with one request"),
    (both(count=5), "5 is more than the 4 a100-80gb"),
    (both(policy="sincere-best-batch"), "expected it with batching: static"),
    (both(policy={"name": "sincere-best-batch"}, batching="static", count=2),
     "sincere-best-batch decides for one device, found 2"),
    (both(load_timeout=5), "did you mean 'load_timeout_s'?"),
    ({"models": [{"model": "llama-3-8b", "precision": "fp8"}]}, "precisions: bf16, int8"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "vllm"}}]}, "vllm needs endpoints"),
    ({"models": [{"model": "llama-3-8b", "engine": {**VLLM, "file": "x.gguf"}}]},
     "engine.file: vllm takes no file"),
    ({"count": 2, "models": [{"model": "llama-3-8b", "engine": VLLM}]},
     "1 for 2 devices; expected one for each"),
    ({"count": 2, "models": [{"model": "llama-3-8b", "engine": {
        **VLLM, "endpoints": ["http://a:1", "http://a:1/"]}}]},
     "endpoints[1]: 'http://a:1/' appears twice"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "vllm", "endpoints": ["ftp://a"]}}]},
     "endpoints[0]: expected a URL such as http://127.0.0.1:8001, without ? and #, found 'ftp://a'"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "process", "command": ["a\0b"]}}]},
     "command[0]: expected text without NUL characters"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "llamacpp", "file": "a\nb"}}]},
     "file: expected a path without control characters"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "process", "command": ["x"]}}]},
     "command: has no {port}"),
    ({"models": [{"model": "llama-3-8b", "engine": {"kind": "llamacpp", "file": "nowhere.gguf"}}]},
     "no file 'nowhere.gguf'")])
def test_what_is_wrong_is_one_clear_line(section, said) -> None:
    with pytest.raises(InputError) as error:
        pools(section)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_pools_and_replicas_do_not_overlap() -> None:
    with pytest.raises(InputError, match="is called a100-80gb like another; give it a name"):
        pools(both(), both())
    with pytest.raises(InputError, match="'gpu' appears twice"):
        pools(both(name="gpu"), both(name="gpu"))
    with pytest.raises(InputError, match="'llama-3-8b' has replicas with endpoints, too"):
        pools(both(), replicas=[{"model": "llama-3-8b", "endpoints": ["http://127.0.0.1:8"]},
                                {"model": "llama-2-7b"}])
    with pytest.raises(InputError, match="expected at least one entry, found an empty list"):
        pools()


def test_pools_share_the_accelerators_that_the_fleet_has() -> None:
    assert len(pools(both(name="one", count=2), both(name="two", count=2))) == 2
    with pytest.raises(InputError, match="count: 3 beside 2 of other pools is more than the 4"):
        pools(both(name="one", count=2), both(name="two", count=3))


def test_floors_that_no_device_could_keep_are_refused() -> None:
    def with_floors(one, other):
        return {"models": [{"model": "llama-3-8b", "min_share": one},
                           {"model": "llama-2-7b", "min_share": other}]}

    pool, = pools(with_floors(0.3, 0.7))
    assert [model.min_share for model in pool.models] == [0.3, 0.7]
    with pytest.raises(InputError, match=r"multiplexing\[0\].models: their min_share come to 1.2"):
        pools(with_floors(0.5, 0.7))


def test_the_example_of_ten_models_holds_three_at_a_time(repository) -> None:
    pool, = load_fleet(repository / "examples" / "ten-models.yaml").multiplexing
    sizes = sorted(model.size_bytes for model in pool.models)
    assert len(sizes) == 10
    assert sum(sizes[-3:]) <= pool.memory_bytes < sum(sizes[:4])
