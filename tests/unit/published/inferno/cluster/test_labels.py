"""Labels of Inferno's Deployments."""

import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.labels import (
    allocation_labels,
    load_labels,
    managed,
    nominal_load,
    unknown_labels,
)
from penstock.published.inferno.values import Allocation, Load
from support.inferno_cluster import PREFIX, deployment, server_labels


def with_labels(**changed):
    labels = server_labels("a") | {f"{PREFIX}{name.replace('_', '.')}": value
                                   for name, value in changed.items()}
    return deployment("a", {name: value for name, value in labels.items() if value is not None}, 3)


def test_a_deployment_is_a_server():
    one = managed(with_labels(allocation_maxqueuesize="5"))
    assert (one.name, one.model, one.service_class, one.accelerator) == (
        "a", "small", "Premium", "A")
    assert (one.replicas, one.max_batch, one.max_queue) == (3, 8, 5)
    assert one.load == Load(60.0, 128, 1024)
    assert nominal_load(with_labels(load_nominal_rpm="90")).arrival_per_min == 90.0


def test_what_a_label_does_not_state_is_inferno_s_default():
    one = managed(with_labels(**{"class": None}, allocation_accelerator=None,
                              allocation_maxbatchsize=None, load_rpm=None))
    assert (one.service_class, one.accelerator, one.max_batch, one.load) == ("Free", "", 0, None)


def test_a_rate_of_0_needs_no_tokens():
    one = managed(with_labels(load_rpm="0", load_intokens=None, load_outtokens=None))
    assert one.load == Load()


@pytest.mark.parametrize(("changed", "words"), [
    ({"name": None}, "label inferno.server.name is missing"),
    ({"model": None, "modle": "small"}, "model is missing; found inferno.server.modle"),
    ({"load_rpm": "many"}, "label inferno.server.load.rpm: found 'many'; expected a number from 0"),
    ({"load_rpm": "-1"}, "found '-1'; expected a number from 0"),
    ({"load_rpm": "nan"}, "found 'nan'; expected a number"),
    ({"load_intokens": "1.5"}, "intokens: found '1.5'; expected a whole number"),
    ({"load_outtokens": None}, "label inferno.server.load.outtokens is missing"),
    ({"allocation_maxbatchsize": "x"}, "maxbatchsize: found 'x'")])
def test_a_wrong_label_is_told_with_its_object(changed, words):
    with pytest.raises(InputError) as caught:
        managed(with_labels(**changed))
    assert str(caught.value).startswith("Deployment infer/a: label inferno.server.")
    assert words in str(caught.value)


def test_a_label_that_inferno_does_not_know_is_named_with_the_nearest():
    assert unknown_labels(with_labels()) == []
    line, = unknown_labels(with_labels(load_intoken="5"))
    assert "inferno.server.load.intoken is none" in line
    assert "did you mean 'inferno.server.load.intokens'?" in line


def test_a_load_and_an_allocation_are_written_as_inferno_writes_them():
    assert load_labels(Load(12.34567, 8, 9)) == {
        f"{PREFIX}load.rpm": "12.3457", f"{PREFIX}load.intokens": "8",
        f"{PREFIX}load.outtokens": "9"}
    assert allocation_labels(Allocation("2xA100", 4, 16)) == {
        f"{PREFIX}allocation.accelerator": "2xA100", f"{PREFIX}allocation.maxbatchsize": "16"}
