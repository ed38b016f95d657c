"""What a deployment gets by its intent, by a configuration, or not at all."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.policy.place.beside import Neighbour, Traffic
from penstock.policy.place.intent import Criteria
from penstock.policy.place.values import Device, Footprint, Placement, Stage
from penstock.serving.deployments.choice import Chooser
from penstock.serving.deployments.cluster import create_cluster
from penstock.serving.deployments.deployments import DeployIntent, RefusedError
from support.simulated_deployments import FLEET, GIB, deployment, site_in

COLUMNS = ("Model", "TP", "PP", "PP_Map", "DTYPE", "INT8_KV_Cache", "Output_Lenght", "Batch_Size",
           "Latency", "Memory-Pre-Run", "Memory-After-Run")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Fingerprints of llama-2-7b, simulated."""
    folder = tmp_path_factory.mktemp("profiled") / "p"
    subprocess.run([sys.executable, "-m", "penstock", "profile", "fingerprint", "llama-2-7b",
                    "--engine", "sim", "--with", "accelerator=a6000", "--precision", "fp16,int4",
                    "--out", str(folder), "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
    return str(folder)


def chooser(tmp_path):
    cluster = site_in(tmp_path)
    return Chooser(cluster), cluster.devices()


def test_each_intent_gets_what_it_makes_small(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    one = deployment(profile=profile)
    found = {intent: choose.decide(one, DeployIntent(Criteria(intent)), devices)
             for intent in ("min_lat", "min_mem", "min_gpu_cost")}
    for intent, decision in found.items():
        document = decision.document
        values = [entry["value"] for entry in document["alternatives"]]
        assert document["intent"] == intent
        assert values == sorted(values)
        assert document["chosen"]["value"] <= min(values)
        assert document["chosen"]["configuration"] == decision.configuration.name
        assert sum(decision.placement.layer_map) == 32
        assert decision.expected.latency_s.low < decision.expected.latency_s.value
    assert found["min_lat"].expected.latency_s.value < found["min_mem"].expected.latency_s.value
    assert (found["min_lat"].expected.memory_bytes.value
            > found["min_mem"].expected.memory_bytes.value)
    assert found["min_gpu_cost"].configuration.parallelism.num_accelerators == 1


def test_who_runs_there_already_is_waited_for(tmp_path, profile):
    """Alone the quickest is four accelerators; beside a busy deployment on two of them, the other
    two are."""
    choose, devices = chooser(tmp_path)
    one, intent = deployment(profile=profile), DeployIntent(Criteria("min_lat", own_rate_per_s=0.1))
    alone = choose.decide(one, intent, devices)
    assert alone.configuration.parallelism == Parallelism(4)
    assert alone.document["chosen"]["beside"] == []
    busy = Neighbour("chat", frozenset({0, 1}), Traffic(0.5, 1.5))
    beside = choose.decide(one, intent, devices, [busy])
    assert beside.configuration.parallelism == Parallelism(2)
    assert set(beside.placement.device_ids) == {2, 3}
    four, = (entry for entry in beside.document["alternatives"]
             if entry["configuration"] == alone.configuration.name)
    assert four["beside"] == [{"name": "chat", "rate_per_s": 0.5, "service_s": 1.5}]
    assert four["wait_s"] > 1.0 > beside.document["chosen"]["wait_s"]
    assert four["response_s"] == pytest.approx(four["latency_s"]["value"] + four["wait_s"])
    published = choose.decide(one, replace(intent, placer="maveriq"), devices, [busy])
    assert published.configuration.parallelism == Parallelism(4)


def test_devices_without_time_are_a_reason(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    full = Neighbour("chat", frozenset(range(4)), Traffic(2.0, 0.5))
    with pytest.raises(RefusedError, match="14 overloaded") as told:
        choose.decide(deployment(profile=profile), DeployIntent(), devices, [full])
    assert told.value.details["rejected"][0]["reason"] == (
        "overloaded: its devices would be busy all of the time with chat there")


def test_an_exact_configuration_goes_where_least_is_waited(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    intent = DeployIntent(configuration=Configuration(Parallelism(), "int4", "fp16"))
    for one in (deployment(profile=profile), deployment()):
        first = choose.decide(one, intent, devices).placement.device_ids
        busy = Neighbour("chat", frozenset(first), Traffic(0.1, 1.0))
        assert choose.decide(one, intent, devices, [busy]).placement.device_ids != first


def test_the_reason_of_every_rejection(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    intent = DeployIntent(Criteria("min_cost", precisions=frozenset({"int4"}), most_accelerators=2))
    document = choose.decide(deployment(profile=profile), intent, devices).document
    named = {entry["configuration"]: entry["reason"] for entry in document["rejected"]}
    assert named["tp4 pp1 int4 kv bf16"] == "too many accelerators: 4 of 2"
    assert named["tp1 pp1 fp16 kv fp16"] == "precision not allowed: fp16"
    taken = [document["chosen"], *document["alternatives"]]
    assert not set(named) & {entry["configuration"] for entry in taken}


@pytest.mark.parametrize(("criteria", "free_gib", "code", "message"), [
    (Criteria("min_lat", 0.001), 48, "no_configuration", "14 too slow; the closest is tp4"),
    (Criteria("min_lat", least_accuracy=99.0), 48, "no_configuration", "14 accuracy unknown"),
    (Criteria("min_lat", own_rate_per_s=100.0), 48, "no_configuration", "14 overloaded"),
    (Criteria("min_mem"), 1, "no_room", "14 no room")])
def test_an_impossible_intent_is_refused(tmp_path, profile, criteria, free_gib, code, message):
    choose, devices = chooser(tmp_path)
    devices = [replace(device, used_bytes=(48 - free_gib) * GIB) for device in devices]
    with pytest.raises(RefusedError, match=message) as told:
        choose.decide(deployment(profile=profile), DeployIntent(criteria), devices)
    assert told.value.code == code
    assert told.value.details["chosen"] is None
    assert len(told.value.details["rejected"]) == 14


def test_accuracy_by_the_users_table(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    table = {"llama-2-7b_int4_False_None": 87.1, "llama-2-7b_float16_False_None": 100.0}
    intent = DeployIntent(Criteria("min_mem", least_accuracy=90.0), accuracy=table)
    decision = choose.decide(deployment(profile=profile), intent, devices)
    assert decision.configuration.precision == "fp16"
    assert decision.document["chosen"]["accuracy"] == 100.0
    with pytest.raises(InputError, match="accuracy: key 'llama'"):
        choose.decide(deployment(profile=profile), replace(intent, accuracy={"llama": 1.0}),
                      devices)


def test_one_accelerator_for_engines_that_spread_nothing(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    one = deployment(profile=profile, engine="llamacpp")
    decision = choose.decide(one, DeployIntent(Criteria("min_lat")), devices)
    assert decision.configuration.parallelism == Parallelism()


def test_an_exact_configuration(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    exact = Configuration(Parallelism(2, 2), "int4", "fp16")
    known = choose.decide(deployment(profile=profile), DeployIntent(configuration=exact), devices)
    bare = choose.decide(deployment(), DeployIntent(configuration=exact), devices)
    for decision in (known, bare):
        assert decision.configuration == exact
        assert decision.placement.footprint.num_devices == 4
        assert decision.document["intent"] is None
    assert known.expected.latency_s is not None
    assert bare.expected.latency_s is None
    assert "nothing was measured" in bare.expected.memory_bytes.source
    weights = 6.5e9 * 0.5
    assert weights < bare.placement.footprint.total_bytes < weights + 3 * GIB


@pytest.mark.parametrize(("configuration", "kind", "message"), [
    (Configuration(Parallelism(3), "int4", "fp16"), InputError, "3 ranks do not divide the 32"),
    (Configuration(Parallelism(1, 33), "int4", "fp16"), InputError, "33 stages are more than"),
    (Configuration(Parallelism(), "int5", "fp16"), InputError, "did you mean 'int"),
    (Configuration(Parallelism(8), "int4", "fp16"), RefusedError, "no room")])
def test_configurations_that_cannot_be(tmp_path, configuration, kind, message):
    choose, devices = chooser(tmp_path)
    with pytest.raises(kind, match=message):
        choose.decide(deployment(), DeployIntent(configuration=configuration), devices)


@pytest.mark.parametrize(("intent", "free_gib", "tiny_gib"), [
    (DeployIntent(configuration=Configuration(Parallelism(), "fp16", "fp16")), (30, 1, 1, 16), 15),
    (DeployIntent(Criteria("min_mem")), (6, 1, 1, 8), 8)])
def test_a_refusal_says_which_move_would_make_room(tmp_path, profile, intent, free_gib, tiny_gib):
    """Device 0 has room once ``tiny``, which lies there, is on device 3."""
    choose, devices = chooser(tmp_path)
    devices = [replace(one, used_bytes=(48 - free) * GIB)
               for one, free in zip(devices, free_gib, strict=True)]
    tiny = Neighbour("tiny", frozenset({0}), None, Placement(
        Footprint("m", tiny_gib, 1, 1, GIB), (Stage(tiny_gib, (0,)),)))
    with pytest.raises(RefusedError, match="; moving tiny would make room") as told:
        choose.decide(deployment(profile=profile), intent, devices, [tiny])
    told_moves = told.value.details["make_room"]
    (move,) = told_moves["moves"]
    assert (move["name"], move["from"], list(move["bytes_by_device"])) == ("tiny", [0], ["3"])
    assert list(told_moves["then"]["bytes_by_device"]) == ["0"]
    assert told_moves["one_by_one"]
    with pytest.raises(RefusedError) as told:
        choose.decide(deployment(profile=profile), intent, devices,
                      [replace(tiny, placement=None)])
    assert told.value.details["make_room"] is None


def test_what_was_not_profiled(tmp_path):
    choose, devices = chooser(tmp_path)
    with pytest.raises(RefusedError, match="a is not profiled") as told:
        choose.decide(deployment(), DeployIntent(), devices)
    assert told.value.code == "not_profiled"


def table(path, model="llama-2-7b", columns=COLUMNS):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for tensor, layers, output in ((t, n, o) for t in (1, 2) for n in (1, 2) for o in (10, 20)):
            latency = 0.001 * output * (1 + layers / tensor)
            row = {"Model": model, "TP": tensor, "PP": 1, "PP_Map": f"[{layers}]",
                   "DTYPE": "float16", "INT8_KV_Cache": "False", "Output_Lenght": output,
                   "Batch_Size": 1, "Latency": latency, "Memory-Pre-Run": 1.0,
                   "Memory-After-Run": 1.0 + 0.4 * layers}
            writer.writerow([row.get(name, "") for name in columns])
    return str(path)


def test_fingerprints_in_a_table(tmp_path):
    choose, devices = chooser(tmp_path)
    one = deployment(profile=table(tmp_path / "f.csv"))
    decision = choose.decide(one, DeployIntent(Criteria("min_lat")), devices)
    assert decision.expected.latency_s.extrapolated
    assert any("4 ranks" in line for line in decision.document["measure_next"])


@pytest.mark.parametrize(("model", "columns", "message"), [
    ("llama-2-70b", COLUMNS, "no fingerprints of llama-2-7b; did you mean 'llama-2-70b'"),
    ("llama-2-7b", COLUMNS[:-3], "Latency"), ("llama-2-7b", ("Modle", *COLUMNS[1:]), "Model")])
def test_tables_that_cannot_serve(tmp_path, model, columns, message):
    choose, devices = chooser(tmp_path)
    one = deployment(profile=table(tmp_path / "f.csv", model, columns))
    with pytest.raises(InputError, match=message):
        choose.decide(one, DeployIntent(), devices)


def test_a_profile_of_another_architecture(tmp_path, profile):
    choose, devices = chooser(tmp_path)
    with pytest.raises(InputError, match="num_layers is 32 there; llama-2-13b has 40"):
        choose.decide(deployment(model="llama-2-13b", profile=profile), DeployIntent(), devices)


def test_devices_of_another_size(tmp_path, profile):
    choose, _ = chooser(tmp_path)
    small = [Device(0, "n", 6 * GIB), Device(1, "n", 40 * GIB)]
    decision = choose.decide(deployment(profile=profile), DeployIntent(Criteria("min_mem")), small)
    assert decision.placement.device_ids == (1,)


def test_learning_from_other_models_narrows_what_is_known(tmp_path, shared_data):
    folder = shared_data / "maveriq"
    (source,) = (path for path in folder.iterdir()
                 if path.name.startswith("fingerprint_data_collection.csv"))
    one = deployment(profile=str(source))
    (tmp_path / "alone").mkdir()
    alone, devices = chooser(tmp_path / "alone")
    (tmp_path / "fleet.yaml").write_text(FLEET)
    taught = Chooser(create_cluster(tmp_path / "taught", tmp_path / "fleet.yaml", folder))
    widths = []
    for choose in (alone, taught):
        found = choose.decide(one, DeployIntent(Criteria("min_gpu_cost")), devices)
        latency = found.expected.latency_s
        widths.append(latency.high / latency.low)
    assert widths[1] < widths[0]
    assert widths[1] < 1.5
