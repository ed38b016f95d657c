"""All problems of a fleet file at once, each at its own place and with its fix."""

import random
from pathlib import Path

import pytest

from penstock.fleet.check import Finding, find_problems
from penstock.fleet.load import finder, parse_fleet, read_marked

VALID = """\
accelerators:
  - {name: a100-80gb, count: 8, price_per_hour: 4.10}
  - {name: l40s, count: 4}
models:
  - {name: llama-3-8b, precisions: [bf16, int8]}
service_classes:
  - {name: interactive, priority: 1, slo: {ttft_s: 6, itl_s: 0.05}}
  - {name: batch, priority: 3, slo: {e2e_s: 600}}
traffic:
  - {model: llama-3-8b, mix: {interactive: 0.4, batch: 0.6}, trace: azure-2023-code, rate_per_s: 3}
replicas:
  - {model: llama-3-8b, accelerator: a100-80gb, count: 2}
policies: {schedule: penstock, route: least_loaded}
run: {seed: 1, num_requests: 20}
"""

# What stands in the file, what is put there instead, and the line, field and fix to be found.
BREAKS = {
    "unknown accelerator": ("l40s", "l40", 3, "accelerators[1].name", "name: l40s"),
    "count of 0": ("count: 8", "count: 0", 2, "accelerators[0].count", "for example count: 8"),
    "unknown key": ("ttft_s: 6", "ttft: 6", 7, "service_classes[0].slo.ttft", "ttft_s: 6"),
    "unknown class": ("batch: 0.6", "bach: 0.6", 10, "traffic[0].mix.bach", "batch: 0.6"),
    "negative rate": ("rate_per_s: 3", "rate_per_s: -3", 10, "traffic[0].rate_per_s",
                      "for example rate_per_s: 3.5"),
    "unknown lengths": ("azure-2023-code", "azure-2023-cod", 10, "traffic[0].trace",
                        "trace: azure-2023-code"),
    "unknown policy": ("schedule: penstock", "schedule: penstok", 13, "policies.schedule",
                       "schedule: penstock"),
    "unknown router": ("least_loaded", "least_load", 13, "policies.route", "route: least_loaded"),
    "misspelt section": ("run:", "rnu:", 14, "rnu", "run: ..."),
}


def findings(text: str, base: Path | None = None) -> list[Finding]:
    marked = read_marked(text, "fleet.yaml")
    fleet, found = find_problems(marked, finder(base, None))
    assert (fleet is None) == bool(found)
    return found


def test_a_sound_file_has_none() -> None:
    assert findings(VALID) == []


@pytest.mark.parametrize("name", BREAKS)
def test_one_problem_is_found_once_and_its_fix_mends_it(name: str) -> None:
    old, new, line, field, fix = BREAKS[name]
    assert old in VALID
    found = findings(VALID.replace(old, new, 1))
    assert [(f.line, f.field, f.fix) for f in found] == [(line, field, fix)]


@pytest.mark.parametrize("seed", range(12))
def test_problems_of_several_kinds_are_found_together(seed: int) -> None:
    chosen = random.Random(seed).sample(sorted(BREAKS), 5)
    text = VALID
    for name in chosen:
        text = text.replace(*BREAKS[name][:2], 1)
    assert {(f.line, f.field, f.fix) for f in findings(text)} == {BREAKS[n][2:] for n in chosen}


# As BREAKS; each fix would be a fault of its own in this file.
STAND_INS = {
    "no replicas": ("replicas:\n  - {model: llama-3-8b, accelerator: l40s}", "replicas: []", 11,
                    "replicas",
                    "for example replicas: [{model: llama-3-8b, accelerator: a100-80gb, "
                    "count: 2}]"),
    "a list of shares": ("{chat: 0.4, batch: 0.6}", "[]", 10, "traffic[0].mix",
                         "for example mix: {interactive: 0.34, batch: 0.66}"),
    "no file": ("azure-2023-code", "{}", 10, "traffic[0].trace.file",
                "for example file: traces/azure2023_code.csv.gz"),
    "a degree of 0": ("policies:", "plan: {tensor: [0]}\npolicies:", 13, "plan.tensor[0]",
                      "for example tensor: [1, 2, 4]"),
    "a format that is none": ("l40s}", "l40s, precision: int3}", 12, "replicas[0].precision",
                              "precision: int8"),
    "a class in a list": ("l40s}", "l40s, service_classes: [chat, bach]}", 12,
                          "replicas[0].service_classes[1]", "batch"),
}
WITHOUT_THEM = (VALID.replace("interactive", "chat").replace("[bf16, int8]", "[bf16]")
                .replace("  - {name: a100-80gb, count: 8, price_per_hour: 4.10}\n", "# none\n")
                .replace("a100-80gb, count: 2", "l40s"))


@pytest.mark.parametrize("name", STAND_INS)
def test_a_fix_is_not_blamed_for_what_the_file_does_not_say(name: str) -> None:
    old, new, line, field, fix = STAND_INS[name]
    assert old in WITHOUT_THEM
    found = findings(WITHOUT_THEM.replace(old, new, 1))
    assert [(f.line, f.field, f.fix) for f in found] == [(line, field, fix)]


def test_a_suggested_model_is_not_blamed_for_its_context() -> None:
    text = VALID.replace("name: llama-3-8b", "name: gpt-4").replace(
        "model: llama-3-8b", "model: gpt-4")
    found = findings(text)
    assert {f.problem.partition(";")[0] for f in found} == {"unknown model 'gpt-4'"}


def test_shares_are_judged_with_the_names_that_were_meant() -> None:
    found = findings(VALID.replace("batch: 0.6", "bach: 0.5"))
    assert [f.field for f in found] == ["traffic[0].mix.bach", "traffic[0].mix"]
    assert found[1].fix == "mix: {interactive: 0.4444, batch: 0.5556}"


def test_a_misspelt_declaration_does_not_blame_those_who_name_it_rightly() -> None:
    found = findings(VALID.replace("{name: llama-3-8b", "{name: llama-3-8"))
    assert [(f.line, f.fix) for f in found] == [(5, "name: llama-3-8b")]


def test_a_declaration_without_a_name_is_told_and_nothing_is_guessed_of_references() -> None:
    found = findings(VALID.replace("{name: batch, ", "{"))
    assert [(f.line, f.field) for f in found] == [(8, "service_classes[1].name")]


def test_two_faulty_entries_of_a_list_keep_their_places() -> None:
    text = VALID.replace("  - {name: l40s, count: 4}\n",
                         "  - {count: 3}\n  - {name: l40s, cuont: 4}\n  - 7\n")
    assert [(f.line, f.field) for f in findings(text)] == [
        (3, "accelerators[1].name"), (4, "accelerators[2].cuont"), (5, "accelerators[3]")]


def test_a_missing_file_is_found_beside_other_problems(tmp_path: Path) -> None:
    text = VALID.replace("trace: azure-2023-code", "trace: {file: t.csv}").replace(
        "seed: 1", "seed: -1")
    assert [f.field for f in findings(text, tmp_path)] == ["traffic[0].trace.file", "run.seed"]


def test_every_fix_but_an_example_is_sound() -> None:
    """What is proposed for unknown names loads when all of it is written into the file."""
    text = VALID
    for name, (old, new, _, _, fix) in BREAKS.items():
        if not fix.startswith("for example") and name != "misspelt section":
            text = text.replace(old, new, 1)
    mended = text
    for _, new, _, _, fix in BREAKS.values():
        if new in text and not fix.startswith("for example"):
            mended = mended.replace(new, fix if ":" in new else fix.partition(": ")[2], 1)
    assert parse_fleet(mended) == parse_fleet(VALID)
