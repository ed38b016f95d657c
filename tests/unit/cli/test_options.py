"""An option is declared once; one that states a field takes the field's words, range and type."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli.command import FieldText
from penstock.cli.main import main
from penstock.fleet.declared import declared, field_help, field_value

DECLARING = {"Option", "states", "replaces", "worded"}


def declarations(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, metavar and place of every option that is declared."""
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(
                    called, "id", "")
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if name in DECLARING and words and str(words[0]).startswith("--"):
                    yield str(words[0]), metavar_of(node, name, words), f"{path.name}:{node.lineno}"


def metavar_of(node: ast.Call, function: str, words: list[Any]) -> str:
    named = [k.value.value for k in node.keywords
             if k.arg == "metavar" and isinstance(k.value, ast.Constant)]
    if named:
        return str(named[0])
    return str(words[2]) if function in DECLARING - {"Option"} and len(words) > 2 else ""


def test_an_option_of_one_name_and_one_kind_of_value_is_declared_once(repository: Path) -> None:
    places = defaultdict(list)
    for name, metavar, place in declarations(repository / "src/penstock/cli"):
        places[name, metavar].append(place)
    assert len(places) > 100
    assert not {option: found for option, found in places.items() if len(found) > 1}


def test_an_option_of_a_field_is_read_and_described_as_the_field() -> None:
    path = "service_classes.slo.percentile"
    assert declared(path).default == 99.0
    assert field_help(path) == ("Share of tokens in a request, and of requests in the class, that "
                                "must be in time, %. (at least 1; at most 100; default: 99)")
    assert field_help("run.seed", "the file's").endswith("(at least 0; default: the file's)")
    assert field_help("service_classes.slo.itl_s").endswith("seconds. (more than 0)")
    assert field_value(path, "95.5") == 95.5
    for text, words in (("101", "at most 100"), ("0.99", "at least 1"), ("x", "a number"),
                        (".nan", "finite"), ("[1]", "a number")):
        with pytest.raises(typer.BadParameter, match=words):
            FieldText(path)(text)


def test_help_leads_with_five_options_and_speaks_the_fields_words(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    page = capsys.readouterr().out
    common, others = page.index("Common options"), page.index("Other options")
    assert common < page.index("--replicas") < page.index("--seed") < others
    words = " ".join(page.replace("│", " ").split())
    assert "Seed of every random choice. (at least 0; default: the file's)" in words
    assert "{" not in page.replace("{FLEET}", "")


def test_an_old_name_of_an_option_says_the_new_one(
        capsys: pytest.CaptureFixture[str], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["lab", "experiment", "sincere", "--out", "grid"]
    outcomes = []
    for option in ("--policies", "--strategies", "--strategies=none-such"):
        value = [] if "=" in option else ["none-such"]
        status = main([*arguments, option, *value])
        outcomes.append((status, *capsys.readouterr()))
    new, old, joined = outcomes
    assert new[0] == old[0] == joined[0] == 2
    assert old[1] == new[1]
    assert old[2] == "`--strategies` is now `--policies`; the old name goes with the next " \
                     f"release\n{new[2]}"
    assert joined == old
