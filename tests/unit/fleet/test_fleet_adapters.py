"""Adapters in a fleet file: a list, another file, a folder."""

import json

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import load_fleet, parse_fleet
from penstock.fleet.values_adapters import Adapter, LoraOptions
from penstock.fleet.write import to_yaml
from support.small_fleet import FLEET


def fleet(adapters, lora=None, **more):
    return parse_fleet(FLEET, overrides={
        "models": [{"name": "llama-3-8b", "adapters": adapters}],
        "replicas": [{"count": 1, **({} if lora is None else {"lora": lora})}], **more})


def test_a_list_of_adapters_is_written_back():
    values = fleet([{"name": "sql", "path": "/a/sql", "rank": 16, "served_as": "s",
                     "service_class": "chat"}, {"name": "static"}],
                   {"max_loras": 4, "max_cpu_loras": 9, "max_rank": 32})
    (model,), (group,) = values.models, values.replicas
    assert model.adapters == (Adapter("sql", "/a/sql", "s", 16, "chat"), Adapter("static"))
    assert group.lora == LoraOptions(4, 9, 32)
    assert group.lora.most_loaded == 9
    assert parse_fleet(to_yaml(values), "small") == values


def test_hundreds_come_from_a_folder_or_from_a_file(tmp_path):
    for number in range(300):
        folder = tmp_path / "adapters" / f"a{number:03}"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8 + number % 2}))
    (tmp_path / "adapters" / "notes").mkdir()
    (tmp_path / "list.yaml").write_text("- {name: sql, path: hub/sql}\n- {name: poem}\n")
    text = FLEET.replace("replicas: [{count: 1}]", "replicas: [{lora: {max_loras: 4}}]")
    for source, expected in (
            ("adapters", [Adapter(f"a{n:03}", str(tmp_path / "adapters" / f"a{n:03}"),
                                  rank=8 + n % 2) for n in range(300)]),
            ("list.yaml", [Adapter("sql", "hub/sql"), Adapter("poem")])):
        file = tmp_path / "fleet.yaml"
        file.write_text(text.replace("{name: llama-3-8b}",
                                     f"{{name: llama-3-8b, adapters_from: {source}}}"))
        assert list(load_fleet(file).models[0].adapters) == expected


@pytest.mark.parametrize(("adapters", "lora", "said"), [
    ([{"name": "a"}, {"name": "a"}], {}, "models[0].adapters[1].name: 'a' is already the name of"),
    ([{"name": "llama-3-8b"}], {}, "is already the name of a model"),
    ([{"name": "a", "service_class": "chit"}], {},
     "unknown service class 'chit'; did you mean 'chat'?"),
    ([{"name": "a"}], None, "no engine of llama-3-8b takes adapters; expected replicas[].lora"),
    ([{"name": "a", "rank": 64}], {"max_rank": 32}, "64 is more than the 32 of any engine"),
    ([{"name": "a", "rank": 0}], {}, "models[0].adapters[0].rank"),
    ([], {"max_loras": 4, "max_cpu_loras": 2},
     "replicas[0].lora.max_cpu_loras: 2 is less than the 4 of max_loras"),
    ([], {"copy_gb_per_s": 1e-300}, "lora.copy_gb_per_s: expected at least 0.0001"),
    ([{"path": "x"}], {}, "models[0].adapters[0]"), ([{"name": "a", "file": "x"}], {}, "file")])
def test_wrong_adapters_are_one_clear_error(adapters, lora, said):
    with pytest.raises(InputError) as error:
        fleet(adapters, lora)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_an_error_beside_named_adapters(tmp_path):
    (tmp_path / "none").mkdir()
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace(
        "{name: llama-3-8b}", "{name: llama-3-8b, adapters: [{name: a}], adapters_from: none}"))
    with pytest.raises(InputError, match=r"adapters_from: .* has no adapters; expected folders"):
        load_fleet(file)


def test_a_tenant_s_unknown_adapter_is_an_error():
    tenants = {"tenants": [{"name": "shop", "models": ["llama-3-8b", "sqll"]}]}
    with pytest.raises(InputError, match=r"gateway\.tenants\[0\]\.models\[1\]: unknown model "
                                         "'sqll'; did you mean 'sql'"):
        fleet([{"name": "sql"}], {}, gateway=tenants)


@pytest.mark.parametrize(("content", "said"), [
    ("- {name: sql, size: 3}\n", "size"), ("name: x\n", "list"), ("- [\n", "not valid YAML"),
    ("[]\n", "has no adapters")])
def test_a_wrong_list_is_one_clear_error(tmp_path, content, said):
    (tmp_path / "list.yaml").write_text(content)
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace("{name: llama-3-8b}",
                                  "{name: llama-3-8b, adapters_from: list.yaml}"))
    with pytest.raises(InputError) as error:
        load_fleet(file)
    assert said in str(error.value)
    assert "adapters_from" in str(error.value)
    assert "\n" not in str(error.value)
