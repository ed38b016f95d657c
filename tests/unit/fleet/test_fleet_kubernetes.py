"""How groups run on a cluster: of their own, and of the fleet's section."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.write import to_yaml
from support import cluster_objects as cluster

TEXT = """\
name: chat
accelerators: [{name: h100-80gb}, {name: H200, price_per_hour: 3}]
models: [{name: llama-3.1-8b, precisions: [bf16, fp8]}]
service_classes: [{name: chat}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1}]
engine: {name: vllm}
replicas: REPLICAS
kubernetes:
  - {accelerator: H200, act: publish, create: {image: "a:1", model: m}}
  - {create: {image: "b:1", model: m, PODS secrets: [s]}}
"""


def groups(replicas, pods="", text=TEXT):
    values = parse_fleet(text.replace("REPLICAS", replicas).replace("PODS", pods), "chat")
    assert parse_fleet(to_yaml(values), "chat") == values
    return [group.kubernetes for group in values.replicas]


def test_a_group_that_states_nothing_runs_as_the_first_entry_that_fits():
    first, second, own = groups("[{accelerator: H200}, {accelerator: h100-80gb}, "
                                "{accelerator: H200, kubernetes: {adopt: {name: mine}}}]")
    assert (first.create.image, first.act) == ("a:1", "publish")
    assert (second.create.image, second.act, second.create.secrets) == ("b:1", "scale", ("s",))
    assert (own.adopt.name, own.create, own.name) == ("mine", None, None)


def test_groups_of_the_section_are_named_by_their_kind_whatever_their_place_and_number():
    names = [one.name for one in groups(
        "[{accelerator: h100-80gb}, {accelerator: h100-80gb, parallelism: {tensor: 2}}, "
        "{accelerator: h100-80gb, precision: fp8}, {accelerator: h100-80gb, kv_precision: fp8}]")]
    assert [name.rpartition("-")[0] for name in names] == [
        "h100-80gb-bf16", "h100-80gb-tp2-bf16", "h100-80gb-fp8", "h100-80gb-bf16"]
    assert len(set(names)) == 4
    again, = groups("[{accelerator: h100-80gb, count: 7}]")
    assert again.name == names[0] == "h100-80gb-bf16-353f7c"  # another name is a switch


def test_a_replica_wider_than_a_machine_has_as_many_pods_as_machines():
    wide = "[{accelerator: h100-80gb, parallelism: {tensor: 8, pipeline: 2}}, {}]"
    assert [one.create.pods for one in groups(wide)] == [2, 1]
    assert [one.create.kind for one in groups(wide)] == ["LeaderWorkerSet", "Deployment"]
    assert groups("[{parallelism: {tensor: 4}}]", "pods: 3,")[0].create.pods == 4


def test_replicas_with_endpoints_run_elsewhere():
    assert groups("[{endpoints: ['http://127.0.0.1:1']}]") == [None]


@pytest.mark.parametrize(("old", "new", "part"), [
    ("accelerator: H200, act", "accelerator: H20, act",
     "kubernetes[0].accelerator: unknown accelerator 'H20'"),
    ("accelerator: H200, act", "model: llama-3.1-8, act",
     "kubernetes[0].model: unknown model 'llama-3.1-8'; did you mean 'llama-3.1-8b'?"),
    ("REPLICAS", "[{kubernetes: {name: '1', adopt: {name: a}}}, "
     "{kubernetes: {adopt: {name: b}}}]", "1 names replicas[0], too; expected a name for each"),
    ("REPLICAS", "[{kubernetes: {name: 'No', adopt: {name: a}}}]", "kubernetes.name"),
])
def test_errors_name_the_field(old, new, part):
    text = TEXT.replace(old, new).replace("REPLICAS", "[{}]").replace("PODS", "")
    with pytest.raises(InputError) as error:
        parse_fleet(text, "chat")
    assert part in str(error.value)


def test_a_policy_needs_no_replicas_where_these_are_to_be_planned():
    text = cluster.PLANNED + "policies: {scale: penstock}\nscaling: {start_s: 9}\n"
    assert parse_fleet(text, "chat", to_plan=True).scales
    with pytest.raises(InputError, match="the file states none; expected replicas"):
        parse_fleet(text, "chat")
