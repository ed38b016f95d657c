"""Inferno's data in ConfigMaps and folders."""

import asyncio

import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.data import ConfigMapData, FolderData
from penstock.published.inferno.cluster.decide import system_of
from support import inferno_bundles
from support.fake_cluster import FakeCluster
from support.inferno_cluster import config_maps, put


def read(data):
    async def both():
        return {**await data.static(), **await data.dynamic()}

    return asyncio.run(both())


def maps(change=lambda static, dynamic: None):
    there = FakeCluster()
    static, dynamic = config_maps(inferno_bundles.document()["system"])
    change(static["data"], dynamic["data"])
    put(there, static, dynamic)
    return ConfigMapData(there, "inferno")


def test_config_maps_and_a_folder_of_the_same_files_are_the_same_data(tmp_path):
    folder = inferno_bundles.write(tmp_path / "data")
    expected = inferno_bundles.system()
    for data in (maps(), FolderData(folder)):
        found = system_of(read(data))
        assert (found.accelerators, found.profiles, found.capacity, found.options) == (
            expected.accelerators, expected.profiles, expected.capacity, expected.options)


@pytest.mark.parametrize(("change", "words"), [
    (lambda static, _: static.pop("model-data.json"),
     "ConfigMap inferno/inferno-static-data: 'model-data.json' is missing; found accelerator-data"),
    (lambda static, _: static.update({"model_data.json": static.pop("model-data.json")}),
     "did you mean 'model_data.json'?"),
    (lambda static, _: static.update({"model-data.json": "{"}),
     "ConfigMap inferno/inferno-static-data: model-data.json: is not JSON"),
    (lambda static, _: static.update({"model-data.json": "[]"}),
     "model-data.json: found a list; expected an object"),
    (lambda static, _: static.update({"model-data.json": '{"model": []}'}),
     "model-data.json: 'models' is missing; found 'model'"),
    (lambda static, _: static.update({"accelerator-data.json": '{"accelerators": [{"name": 1}]}'}),
     "accelerator-data.json: accelerators[0]: name: found 1; expected a text"),
    (lambda _, dynamic: dynamic.update({"capacity-data.json": '{"count": [{"type": "A", '
                                                              '"count": "many"}]}'}),
     "ConfigMap inferno/inferno-dynamic-data: capacity-data.json: count[0]: count: found 'many'; "
     "expected a number")])
def test_wrong_content_is_one_error_with_object_key_and_field(change, words):
    with pytest.raises(InputError) as caught:
        system_of(read(maps(change)))
    assert words in str(caught.value)
    assert str(caught.value).startswith("ConfigMap inferno/inferno-")


def test_a_config_map_that_is_not_there_is_told_with_the_keys_that_it_should_have():
    with pytest.raises(InputError, match=r"inferno-static-data: there is none; expected one "
                                         r"with the keys accelerator-data\.json, model-data"):
        read(ConfigMapData(FakeCluster(), "inferno"))


def test_a_folder_that_lacks_a_file_or_is_none_is_told(tmp_path):
    folder = inferno_bundles.write(tmp_path / "data")
    (folder / "capacity-data.json").unlink()
    with pytest.raises(InputError, match=r"data: 'capacity-data\.json' is missing; found"):
        read(FolderData(folder))
    with pytest.raises(InputError, match="no such folder"):
        read(FolderData(tmp_path / "none"))
