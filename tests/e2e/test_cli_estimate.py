"""penstock estimate: from a folder of measurements to estimates and a choice."""

import csv
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.core.units import GIB
from penstock.perf.profiles.summary import read_runs
from support.fingerprint_world import (
    HEADER,
    HELD_FORMATS,
    MODELS,
    SUBJECTS,
    configurations,
    cuts_of,
    num_bytes,
    seconds,
    whole_runs,
    write,
)

HELD_OUT = "llama-2-13b"
OTHERS = tuple(model for model in MODELS if model != HELD_OUT)


@pytest.fixture
def data(folder):
    """A folder laid out as MaverIQ's, whose whole runs leave one model out."""
    found = folder / "data"
    found.mkdir()
    write(found / "full_model_data_collection.csv", whole_runs(OTHERS))
    write(found / "fingerprint_data_collection.csv", cuts_of())
    write(found / "full_model_data_collection_prunning.csv", [
        replace(run, latency_s=99.0) for run in whole_runs(OTHERS[:1])])
    return found


@pytest.fixture
def configs(folder):
    """Every configuration of the model that was left out, without any latency."""
    path = folder / "configs.csv"
    rows = [",".join(HEADER[:3] + HEADER[4:8])]
    rows += [f"{HELD_OUT},{c.parallelism.tensor},{c.parallelism.pipeline},"
             f"{HELD_FORMATS[c.precision]},{c.kv_precision == 'int8'},100,1"
             for c in configurations()]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_file_of_configurations_becomes_one_of_estimates(penstock, folder, data, configs):
    found = penstock("profile", "estimate", "--train", data, "--configs", configs, "--fingerprints",
                     data / "fingerprint_data_collection.csv", "--out", "out.csv", "--json")
    assert found.status == 0, found.err
    assert found.json["num_rows"] == len(list(configurations()))
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = SUBJECTS[HELD_OUT].model.num_layers
    for row, configuration in zip(rows, configurations(), strict=True):
        assert float(row["latency_s"]) == pytest.approx(
            seconds(HELD_OUT, configuration, layers, 100), rel=0.08)
        assert float(row["memory_gib"]) == pytest.approx(
            num_bytes(HELD_OUT, configuration, layers) / GIB, rel=0.03)
        for low, value, high in (("latency_low_s", "latency_s", "latency_high_s"),
                                 ("memory_low_gib", "memory_gib", "memory_high_gib")):
            assert all(float(row[a]) <= float(row[b]) for a, b in pairwise((low, value, high)))


@pytest.mark.parametrize("intent", ["min_lat", "min_mem", "min_cost", "min_gpu_cost", "money",
                                    "energy"])
def test_a_choice_by_intent_is_the_best_of_the_listed(penstock, data, intent):
    found = penstock("profile", "estimate", HELD_OUT, "--train", data, "--intent", intent, "--json")
    assert found.status == 0, found.err
    answer = found.json
    values = [one["value"] for one in (answer["chosen"], *answer["alternatives"])]
    assert values == sorted(values)
    assert sum(answer["chosen"]["layers_by_stage"]) == 40
    assert len(answer["measure_next"]) == 3
    best = Configuration(Parallelism(answer["chosen"]["tensor"], answer["chosen"]["pipeline"]),
                         answer["chosen"]["precision"], answer["chosen"]["kv_precision"])
    if intent == "min_lat":
        assert answer["chosen"]["latency_s"]["value"] == pytest.approx(
            seconds(HELD_OUT, best, 40, 100), rel=0.1)


def test_maveriqs_rule_has_no_intervals_and_learns_its_exponents(penstock, folder, data, configs):
    found = penstock("profile", "estimate", "--train", data, "--configs", configs, "--out",
                     "out.csv",
                     "--mode", "maveriq")
    assert found.status == 0, found.err
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["latency_low_s"] == row["latency_s"] == row["latency_high_s"] for row in rows)
    errors = [abs(float(row["latency_s"]) / seconds(HELD_OUT, configuration, 40, 100) - 1)
              for row, configuration in zip(rows, configurations(), strict=True)]
    assert sorted(errors)[len(errors) // 2] < 0.2
    (data / "latency_exponents.csv").write_text(
        "Method,Quant-config,alpha,beta,gamma,delta\n"
        'fingerprint,"(float16, False)",0.05,0.7,0.2,0.5\n')
    missing = penstock("profile", "estimate", "--train", data, "--configs", configs, "--out",
                       "other.csv",
                       "--mode", "maveriq")
    assert missing.status == 2
    assert "no fingerprints or exponents for tp1 pp1 int8" in missing.err
    chosen = penstock("profile", "estimate", HELD_OUT, "--train", data, "--mode", "maveriq",
                      "--json")
    assert chosen.json["chosen"]["precision"] == "fp16"
    assert chosen.json["measure_next"] == []


def test_what_maveriqs_rule_needs_and_what_it_makes(penstock, folder, data, configs):
    """Memory is that of the shortest answers; more ranks need runs of two; batches need batches,
    all of one session; what cannot be is refused."""
    rows = [replace(run, memory_bytes=run.memory_bytes * (1.0 if run.output_tokens == 10 else 3.0))
            for run in cuts_of([HELD_OUT])]

    def asked(model, runs, *more):
        write(folder / "cuts.csv", runs)
        return penstock("profile", "estimate", model, "--train", data, "--fingerprints",
                        "cuts.csv", "--mode",
                        "maveriq", "--json", *more)

    plain = asked(HELD_OUT, cuts_of([HELD_OUT])).json
    assert asked(HELD_OUT, rows).json["chosen"] == plain["chosen"]
    alone = asked(HELD_OUT, [run for run in rows if run.tensor == 1]).json
    assert {one["tensor"] for one in (alone["chosen"], *alone["alternatives"])} == {1}
    odd = asked(HELD_OUT, [replace(run, memory_bytes=run.memory_bytes / run.num_layers**4)
                           for run in rows])
    assert "MaverIQ's rule makes" in odd.json["rejected"][0]["reason"]
    assert all(one["memory_bytes"]["value"] > 0 for one in odd.json["alternatives"])
    assert asked(HELD_OUT, rows, "--batch", 4).status == 1
    session = [replace(run, batch=batch, latency_s=0.5 * run.latency_s * batch)
               for run in cuts_of([HELD_OUT]) for batch in (1, 2)]
    write(data / "full_model_data_collection_BS.csv", whole_runs(OTHERS[:1]))
    write(data / "fingerprint_data_collection_BS.csv", session)
    one, four = (penstock("profile", "estimate", HELD_OUT, "--train", data, "--mode", "maveriq",
                          "--json",
                          "--intent", "min_lat", "--batch", batch).json["chosen"]["latency_s"]
                 for batch in (1, 4))
    assert four["value"] == pytest.approx(4 * 0.5 * one["value"])


def test_tables_for_people_say_why_others_were_rejected(penstock, data):
    found = penstock("profile", "estimate", HELD_OUT, "--train", data, "--accelerators", 2,
                     "--precisions",
                     "int8,int4", "--intent", "min_lat")
    assert found.status == 0, found.err
    assert "by min_lat: the best first" in found.out
    assert "precision not allowed: fp16" in found.out
    assert "measure next: " in found.err


def test_memory_that_others_use_leaves_no_room(penstock, data):
    found = penstock("profile", "estimate", "llama-2-70b", "--train", data, "--accelerators", 2,
                     "--used-gib",
                     "40,45", "--json")
    assert found.status == 1
    assert found.json["chosen"] is None
    assert all(one["reason"].startswith("no room") for one in found.json["rejected"])


def test_every_placer_finds_room_where_there_is_some(penstock, data):
    """What others use leaves whole devices free, which the first ones by number are not."""
    def placed(placer):
        found = penstock("profile", "estimate", HELD_OUT, "--train", data, "--placer", placer,
                         "--accelerators", 4, "--used-gib", "30,0,0,0", "--json")
        assert found.status == 0, found.err
        return {one["configuration"] for one in (found.json["chosen"], *found.json["alternatives"])}

    assert placed("exact") == placed("penstock") > placed("balanced")


def test_an_slo_that_nothing_keeps_is_told_with_the_nearest(penstock, data):
    found = penstock("profile", "estimate", HELD_OUT, "--train", data, "--slo", 0.01, "--json")
    assert found.status == 1
    assert "too slow" in found.json["reason"]
    assert found.json["nearest"] is not None
    told = penstock("profile", "estimate", HELD_OUT, "--train", data, "--slo", 0.01).out
    assert "the closest is" in told
    assert told.count("s of 0.01 s, and the like") == told.count("too slow:") == 1


def test_accuracy_by_a_table(penstock, folder, data):
    table = {f"{HELD_OUT}_float16_False_None": 100, f"{HELD_OUT}_int8_False_None": 99.5,
             f"{HELD_OUT}_int4_True_None": 90.0, f"{HELD_OUT}_float16_False_wanda": 50}
    (folder / "accuracy.json").write_text(json.dumps(table))
    found = penstock("profile", "estimate", HELD_OUT, "--train", data, "--accuracy",
                     "accuracy.json",
                     "--least-accuracy", 99, "--intent", "min_mem", "--json")
    assert found.json["chosen"]["precision"] == "int8"
    assert found.json["chosen"]["accuracy"] == 99.5
    assert {one["reason"] for one in found.json["rejected"]} == {"not accurate enough: 90 of 99"}


@pytest.mark.parametrize(("arguments", "message"), [
    (("--train", "data"), "expected either MODEL, or --configs and --out"),
    ((HELD_OUT, "--configs", "configs.csv"), "expected either MODEL"),
    (("--train", "data", "--configs", "configs.csv"), "expected either MODEL"),
    ((HELD_OUT,), "--train: no folder to learn from"),
    ((HELD_OUT, "--train", "nowhere"), "nowhere: no such folder"),
    ((HELD_OUT, "--train", "empty"), "holds no runs of whole models"),
    (("llama-2-13c", "--train", "data"), "no fingerprints; did you mean 'llama-2-13b'"),
    ((HELD_OUT, "--train", "data", "--intent", "min_lta"), "--intent: 'min_lta' is unknown"),
    ((HELD_OUT, "--train", "data", "--precisions", "int9"), "--precisions: 'int9' is unknown"),
    ((HELD_OUT, "--train", "data", "--mode", "maverick"), "--mode: 'maverick' is unknown"),
    ((HELD_OUT, "--train", "data", "--slo", "-1"), "'--slo': expected more than 0, found -1"),
    ((HELD_OUT, "--train", "data", "--least-accuracy", "nan"),
     "'--least-accuracy': expected a number, found 'nan'"),
    ((HELD_OUT, "--train", "data", "--rate", "inf"), "'--rate': expected a number, found 'inf'"),
    ((HELD_OUT, "--train", "data", "--batch", "1" + "0" * 400), "'--batch'"),
    ((HELD_OUT, "--train", "data", "--accuracy", "nan.json"), "nan; expected a number"),
    ((HELD_OUT, "--train", "data", "--used-gib", "1,2"), "--used-gib: '1,2'; expected 8 numbers"),
    ((HELD_OUT, "--train", "data", "--used-gib", "a"), "expected numbers parted by commas"),
    ((HELD_OUT, "--train", "data", "--placer", "best"), "unknown placer 'best'"),
    ((HELD_OUT, "--train", "data", "--accelerator", "a6001"), "a6000"),
    ((HELD_OUT, "--train", "data", "--accuracy", "configs.csv"), "cannot be read as JSON"),
    ((HELD_OUT, "--train", "data", "--accuracy", "odd.json"), "odd.json: accuracy: key 'x'"),
])
def test_bad_input_is_one_clear_line(penstock, folder, data, configs, arguments, message):
    (folder / "empty").mkdir()
    (folder / "odd.json").write_text('{"x": 1}')
    (folder / "nan.json").write_text('{"llama-2-13b_int8_False_None": NaN}')
    found = penstock("profile", "estimate", *arguments)
    assert found.status == 2
    assert message in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(("broken", "message"), [
    (lambda text: text.replace("Output_Lenght", "Output_Length"), "no column 'Output_Lenght'"),
    (lambda text: text.replace("float16", "float17", 1), ":2: DTYPE: found 'float17'"),
    (lambda text: text.replace(",100,", ",ten,", 1), ":2: Output_Lenght: found 'ten'"),
    (lambda text: text.replace(HELD_OUT, "llama-9", 1), "llama-9"),
    (lambda text: text.replace(",100,1", ",1e308,1", 1), "'1e308'; expected a number below 1e+30"),
    (lambda text: text.replace(",1,1,float16", ",5,1,float16", 1), ":2: 5 ranks"),
    (lambda text: text.replace(",1,1,float16", ",3,1,float16", 1), ":2: 3 ranks"),
    (lambda text: text.splitlines()[0] + "\n", "no rows"),
    (lambda text: "", "the file is empty"),
])
def test_a_broken_file_of_configurations_leaves_nothing_behind(penstock, folder, data, configs,
                                                               broken, message):
    configs.write_text(broken(configs.read_text()))
    found = penstock("profile", "estimate", "--train", data, "--configs", configs, "--out",
                     "out.csv")
    assert found.status == 2
    assert message in found.err
    assert not (folder / "out.csv").exists()
    assert not list(folder.glob(".partial*"))


def test_a_model_without_fingerprints_is_refused_by_its_row(penstock, folder, data, configs):
    write(folder / "few.csv", cuts_of(["llama-2-7b"]))
    found = penstock("profile", "estimate", "--train", data, "--fingerprints", "few.csv",
                     "--configs",
                     configs, "--out", "out.csv")
    assert found.status == 2
    assert "configs.csv:2: model llama-2-13b: no fingerprints" in found.err


def test_from_profiles_of_ones_own_to_an_estimate(penstock, folder):
    """The simulated engine's own times are the truth: the model is never profiled whole."""
    quick = ("--engine", "sim", "--with", "accelerator=a100-80gb", "--with", "accelerators=2",
             "--min-repeats", 2, "--max-repeats", 3)
    for model in ("llama-3.2-1b", "llama-3.2-3b"):
        found = penstock("profile", "fingerprint", model, *quick, "--out", f"p/{model}")
        assert found.status == 0, found.err
        for output in (16, 64):
            assert penstock("profile", "model", model, *quick, "--prompt-tokens", 256, "--batch",
                            "1,4", "--output-tokens", output, "--tensor", 2, "--out",
                            f"p/{model}-{output}").status == 0
    assert penstock("profile", "fingerprint", "llama-3-8b", *quick, "--out", "cuts").status == 0
    assert penstock("profile", "model", "llama-3-8b", *quick, "--prompt-tokens", 256, "--batch", 1,
                    "--output-tokens", 64, "--tensor", 2, "--out", "truth").status == 0
    found = penstock("profile", "estimate", "llama-3-8b", "--train", "p", "--fingerprints", "cuts",
                     "--accelerator", "a100-80gb", "--accelerators", 2, "--output-tokens", 64,
                     "--prompt-tokens", 256, "--intent", "min_lat", "--json")
    assert found.status == 0, found.err
    assert found.json["chosen"]["configuration"] == "tp2 pp1 bf16 kv bf16"
    (truth,) = read_runs(folder / "truth")
    assert found.json["chosen"]["latency_s"]["value"] == pytest.approx(truth.latency_s, rel=0.1)
    assert found.json["chosen"]["memory_bytes"]["value"] == pytest.approx(truth.memory_bytes,
                                                                          rel=0.05)


def test_profiles_of_unlike_machines_are_not_joined(penstock, folder, data):
    def profiled(kind, accelerator, *more):
        found = penstock("profile", kind, "llama-3.2-1b", "--engine", "sim", "--with",
                         f"accelerator={accelerator}", "--with", "accelerators=1", "--min-repeats",
                         1, "--max-repeats", 1, *more)
        assert found.status == 0, found.err

    for output in (16, 64):
        profiled("model", "a100-80gb", "--prompt-tokens", 256, "--batch", 1, "--output-tokens",
                 output, "--out", f"p/{output}")
    profiled("fingerprint", "h100-sxm-80gb", "--out", "cuts")
    profiled("fingerprint", "a100-80gb", "--out", "p/cuts")
    asked = ("profile", "estimate", "llama-3.2-1b", "--train", "p", "--accelerators", 1)
    other = penstock(*asked)
    assert (other.status, "expected --accelerator a100-80gb" in other.err) == (2, True)
    assert penstock(*asked, "--accelerator", "a100-80gb").status == 0
    mixed = penstock(*asked, "--accelerator", "a100-80gb", "--fingerprints", "cuts")
    assert (mixed.status, "cuts: simulates h100-80gb" in mixed.err) == (2, True)
    found = penstock("profile", "import", data / "fingerprint_data_collection.csv", "--from",
                     "maveriq", "--out", "p/real")
    assert found.status == 0, found.err
    mixed = penstock(*asked, "--accelerator", "a100-80gb")
    assert mixed.status == 2
    assert "cannot be joined: " in mixed.err
    assert "p/real of a real engine" in mixed.err


@pytest.mark.parametrize(("change", "said"), [
    ({"latency_s": 1e3}, "expected seconds; these look like milliseconds"),
    ({"memory_bytes": 1024.0}, "these look like MiB")])
def test_columns_in_other_units_are_refused(penstock, data, configs, folder, change, said):
    """In the fingerprints, and in the folder to learn from."""
    (name, factor), = change.items()
    def scaled(runs):
        return [replace(run, **{name: factor * getattr(run, name)}) for run in runs]

    write(folder / "own.csv", scaled(cuts_of([HELD_OUT])))
    for mode in ("penstock", "maveriq"):
        found = penstock("profile", "estimate", "--train", data, "--configs", configs, "--out",
                         "out.csv",
                         "--fingerprints", "own.csv", "--mode", mode)
        assert found.status == 2
        assert found.err.startswith("error: own.csv:2: ")
        assert said in found.err
    imported = penstock("profile", "import", "own.csv", "--from", "maveriq", "--out", "own")
    assert imported.status == 0
    assert said in " ".join(imported.err.split())
    again = penstock("profile", "estimate", "--train", data, "--configs", configs, "--out",
                     "out.csv",
                     "--fingerprints", "own")
    assert again.status == 2
    assert said in again.err
    write(data / "full_model_data_collection.csv", scaled(whole_runs(OTHERS)))
    learning = penstock("profile", "estimate", HELD_OUT, "--train", data)
    assert learning.status == 2
    assert "full_model_data_collection.csv:2: " in learning.err
    assert not (folder / "out.csv").exists()
