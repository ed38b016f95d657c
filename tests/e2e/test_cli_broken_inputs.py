"""Whatever a user gets wrong: status 2, one line that begins with ``error:``, nothing written."""

import gzip
import os
from pathlib import Path

import pytest
import yaml

from support.small_fleet import FLEET

REPLICAS = "replicas: [{count: 1}]\n"
TRACE = "traffic: [{mix: {chat: 1.0}, trace: {file: t.csv}}]\n"
CSV = "arrival_s,prompt_tokens,output_tokens\n"

# Name -> (text in the fleet file, what stands there instead, words of the message).
FLEETS = {
    "unknown key": ("rate_per_s: 5", "rate: 5", ["rate", "rate_per_s"]),
    "unknown section": (REPLICAS, "replica: [{count: 1}]\n", ["did you mean 'replicas'"]),
    "unknown accelerator": ("a100-80gb", "a100-80g", ["did you mean 'a100-80gb'"]),
    "unknown model": ("llama-3-8b", "llama-3-8", ["did you mean 'llama-3-8b'"]),
    "unknown class": ("batch: 0.4", "bach: 0.4", ["did you mean 'batch'"]),
    "unknown policy": ("schedule: penstock", "schedule: niama", ["'niyama'"]),
    "unknown policy setting": ("schedule: penstock", "schedule: {name: sarathi, chunk_token: 5}",
                               ["did you mean 'chunk_tokens'"]),
    "unknown router": ("least_loaded", "round-robin", ["round_robin"]),
    "unknown arrivals": ("rate_per_s: 5", "rate_per_s: 5\n    arrivals: poison", ["poisson"]),
    "unknown lengths": ("lengths: {prompt: {fixed: 400}, output: {fixed: 40}}",
                        "lengths: azure-2023", ["azure-2023-co"]),
    "negative rate": ("rate_per_s: 5", "rate_per_s: -5", ["more than 0", "-5"]),
    "zero rate": ("rate_per_s: 5", "rate_per_s: 0", ["more than 0"]),
    "NaN rate": ("rate_per_s: 5", "rate_per_s: .nan", ["finite"]),
    "infinite rate": ("rate_per_s: 5", "rate_per_s: .inf", ["rate_per_s"]),
    "rate as text": ("rate_per_s: 5", "rate_per_s: fast", ["a number", "'fast'"]),
    "no rate": ("    rate_per_s: 5\n", "", ["rate_per_s"]),
    "zero requests": ("num_requests: 60", "num_requests: 0", ["at least 1"]),
    "half a request": ("num_requests: 60", "num_requests: 1.5", ["a whole number"]),
    "negative target": ("ttft_s: 2", "ttft_s: -2", ["more than 0"]),
    "percentile over 100": ("ttft_s: 2", "ttft_s: 2, percentile: 101", ["at most 100"]),
    "shares over 1": ("batch: 0.4", "batch: 0.5", ["sum to 1.1"]),
    "negative share": ("batch: 0.4", "batch: -0.4", ["more than 0"]),
    "zero prompt": ("{fixed: 400}", "{fixed: 0}", ["at least 1"]),
    "huge prompt": ("{fixed: 400}", "{fixed: 9000}", ["9,000", "context", "8,192"]),
    "huge prompt for the KV cache": (
        REPLICAS, REPLICAS + "engine: {kv_tokens: 320}\n", ["400", "KV cache"]),
    "model that does not fit": ("llama-3-8b", "llama-3.1-405b", ["does not fit"]),
    "tensor degree beyond a node": ("{count: 1}", "{parallelism: {tensor: 16}}", ["16"]),
    "more replicas than accelerators": ("{count: 1}", "{count: 5}", ["need 5", "has 4"]),
    "no replicas listed": ("[{count: 1}]", "[]", ["at least one entry"]),
    "class that nobody serves": ("{count: 1}", "{service_classes: [chat]}", ["'batch'"]),
    "class twice": ("name: batch", "name: chat", ["appears twice"]),
    "key twice": (REPLICAS, REPLICAS * 2, ["appears twice"]),
    "broken YAML": ("replicas: [", "replicas: [[", ["YAML"]),
    "tagged YAML": ("name: small", "name: !!python/object:os.system small", ["tag"]),
    "not a mapping": (FLEET, "- a\n- b\n", ["expected a mapping"]),
    "empty file": (FLEET, "", ["empty"]),
    "step time without coefficients": ("{count: 1}", "{step_time: linear}", ["coefficients"]),
    "missing kernel tables": ("{count: 1}", "{step_time: {kind: kernels, path: tables}}",
                              ["tables"]),
    "missing step-time file": ("{count: 1}", "{step_time: fit.yaml}", ["fit.yaml"]),
    "missing config.json": ("{name: llama-3-8b}", "{name: mine, config: mine}", ["'mine'"]),
    "missing catalog": ("name: small", "name: small\ncatalog: nowhere", ["'nowhere'"]),
    "missing trace": (FLEET[FLEET.index("traffic"):FLEET.index("replicas")], TRACE, ["t.csv"]),
}


@pytest.fixture
def fails(penstock, folder):
    """Runs a command line that must fail as promised, and gives its line."""
    def call(*arguments):
        before = listing(folder)
        outcome = penstock(*arguments)
        assert outcome.status == 2, outcome
        assert outcome.err.startswith("error: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.endswith("\n")
        assert "Traceback" not in outcome.err
        assert outcome.out == ""
        assert listing(folder) == before
        return outcome.err

    return call


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", FLEETS)
def test_a_broken_fleet_file_is_named_with_what_was_expected(name, fails, folder):
    old, new, words = FLEETS[name]
    assert old in FLEET
    (folder / "fleet.yaml").write_text(FLEET.replace(old, new))
    line = fails("run", "fleet.yaml", "--out", "out")
    assert "fleet.yaml" in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", FLEETS)
def test_check_finds_what_is_broken(name, penstock, folder):
    old, new, words = FLEETS[name]
    (folder / "fleet.yaml").write_text(FLEET.replace(old, new))
    outcome = penstock("check", "fleet.yaml")
    assert outcome.status == 2
    number = 2 if name == "class twice" else 1
    assert outcome.err.startswith(f"error: fleet.yaml: {number} problem")
    assert outcome.out.startswith("fleet.yaml")
    for word in words:
        assert word in outcome.out


TRACES = {
    "empty": (b"", "is empty"),
    "header only": (CSV.encode(), "no requests"),
    "unsorted": (f"{CSV}0,5,5\n2,5,5\n1,5,5\n".encode(), "t.csv:4"),
    "negative time": (f"{CSV}-1,5,5\n".encode(), "t.csv:2"),
    "NaN time": (f"{CSV}0,5,5\nnan,5,5\n".encode(), "t.csv:3"),
    "NaN tokens": (f"{CSV}0,nan,5\n".encode(), "prompt_tokens"),
    "negative tokens": (f"{CSV}0,5,-5\n".encode(), "output_tokens"),
    "fraction of a token": (f"{CSV}0,5.5,5\n".encode(), "prompt_tokens"),
    "zero prompt": (f"{CSV}0,0,5\n".encode(), "prompt_tokens"),
    "text for a number": (f"{CSV}0,many,5\n".encode(), "'many'"),
    "field missing": (f"{CSV}0,5,5\n1,5\n".encode(), "t.csv:3"),
    "column missing": (b"arrival_s,prompt_tokens\n0,5\n", "output_tokens"),
    "huge prompt": (f"{CSV}0,900000,5\n".encode(), "900,000"),
    "binary": (bytes(range(256)) * 8, "not a text file"),
    "cut gzip": (gzip.compress(CSV.encode() * 500)[:-20], "gzip"),
    "broken JSON": (b'{"timestamp": 0, "input_length"\n', "t.csv:1"),
    "unknown class": (b"arrival_s,prompt_tokens,output_tokens,class\n0,5,5,vip\n", "vip"),
}


def cases(names, known):
    return [pytest.param(name, marks=known[name]) if name in known else name for name in names]


@pytest.mark.parametrize("name", cases(TRACES, {}))
def test_a_broken_trace_is_named_with_its_line(name, fails, folder):
    content, word = TRACES[name]
    mix = "" if name == "unknown class" else "mix: {chat: 1.0}, "
    start, end = FLEET.index("traffic"), FLEET.index("replicas")
    (folder / "fleet.yaml").write_text(
        f"{FLEET[:start]}traffic: [{{{mix}trace: {{file: t.csv}}}}]\n{FLEET[end:]}")
    (folder / "t.csv").write_bytes(content)
    assert word in fails("run", "fleet.yaml", "--out", "out")


FLAGS = {
    "negative seed": (["run", "fleet.yaml", "--seed", "-1"], "--seed"),
    "seed as text": (["run", "fleet.yaml", "--seed", "x"], "--seed"),
    "no seeds": (["capacity", "fleet.yaml", "--seeds", "0"], "--seeds"),
    "zero replicas": (["simulate", "fleet.yaml", "--replicas", "0"], "--replicas"),
    "too many replicas": (["simulate", "fleet.yaml", "--replicas", "5"], "need 5 a100-80gb"),
    "no replicas stated": (["simulate", "unsized.yaml"], "--replicas N"),
    "capacity without replicas": (["capacity", "unsized.yaml"], "--replicas N"),
    "rates of no YAML": (["profile", "fit", "rates", ".", "--out", "rates"], "ends in .yaml"),
    "unknown option": (["run", "fleet.yaml", "--jsn"], "did you mean '--json'?"),
    "unknown command": (["simulat", "fleet.yaml"], "did you mean 'simulate'?"),
    "unknown subcommand": (["trace", "inf", "x"], "'info'"),
    "subcommand like no other": (["trace", "zz"], "expected one of: convert, generate, info"),
    "command like no other": (["nosuch"], "expected one of: attest, bench, capacity, catalog,"),
    "command that was begun": (["cap", "fleet.yaml"], "did you mean 'capacity'?"),
    "option of one letter": (["run", "fleet.yaml", "-o", "x"], "did you mean '--out'?"),
    "option like no other": (["run", "fleet.yaml", "--zzz"], "expected one of: --data"),
    "option before its command": (["--json", "run", "fleet.yaml"], "follow its name"),
    "variant without a space": (["compare", "fleet.yaml", "--grid", "variant={accelerator:l40s}"],
                                "a space after the colon of 'accelerator'; expected one of: "
                                "accelerator, kv_precision, lora, model,"),
    "variant of an unknown key": (["compare", "fleet.yaml", "--policies", "edf", "--set",
                                   "variant={zzz: l40s}"],
                                  "expected one of: accelerator, kv_precision, lora, model,"),
    "variant that is no mapping": (["compare", "fleet.yaml", "--policies", "edf", "--set",
                                    "variant=l40s"],
                                   "its keys: accelerator, kv_precision, lora, model,"),
    "missing argument": (["run"], "FLEET"),
    "superfluous argument": (["run", "fleet.yaml", "other.yaml"], "other.yaml"),
    "missing subcommand": (["catalog"], "missing command"),
    "option without value": (["run", "fleet.yaml", "--seed"], "--seed"),
    "missing fleet file": (["run", "flet.yaml"], "no such file"),
    "folder as fleet file": (["run", "."], "is a folder"),
    "missing data folder": (["run", "fleet.yaml", "--data", "nowhere"], "--data nowhere"),
    "set without value": (["run", "fleet.yaml", "--set", "run.seed"], "KEY=VALUE"),
    "set of an unknown key": (["run", "fleet.yaml", "--set", "run.sed=1"], "'seed'"),
    "set beyond a list": (["run", "fleet.yaml", "--set", "traffic[1].rate_per_s=1"],
                          "list of 1"),
    "set below a number": (["run", "fleet.yaml", "--set", "run.seed=3", "--set",
                            "traffic[0].rate_per_s.x=1"], "rate_per_s"),
    "set to broken YAML": (["run", "fleet.yaml", "--set", "run.seed=[1"], "--set run.seed"),
    "set to NaN": (["run", "fleet.yaml", "--set", "run.warmup_s=.nan"], "warmup_s"),
    "attainment over 1": (["capacity", "fleet.yaml", "--attainment", "99"], "attainment is 99"),
    "NaN attainment": (["capacity", "fleet.yaml", "--attainment", "nan"], "attainment is nan"),
    "zero tolerance": (["capacity", "fleet.yaml", "--tolerance", "0"], "--tolerance"),
    "low above high": (["capacity", "fleet.yaml", "--low", "5", "--high", "4"], "low is 5"),
    "negative low": (["capacity", "fleet.yaml", "--low", "-1"], "low is -1"),
    "infinite high": (["capacity", "fleet.yaml", "--high", "inf"], "high is inf"),
    "unknown contender": (["compare", "fleet.yaml", "--policies", "penstock,niama"],
                          "--policies niama"),
    "unknown knob": (["compare", "fleet.yaml", "--policies", "sarathi:chunk=5"],
                     "'chunk_tokens'"),
    "knob out of range": (["compare", "fleet.yaml", "--policies", "sarathi:chunk_tokens=-5"],
                          "at least 1"),
    "knob without value": (["compare", "fleet.yaml", "--policies", "sarathi:512"], "key=value"),
    "knob twice": (["compare", "fleet.yaml", "--policies", "sarathi:chunk_tokens=8:chunk_tokens=9"],
                   "error: --policies sarathi:chunk_tokens=8:chunk_tokens=9: 'chunk_tokens' "
                   "appears twice"),
    "knob named once": (["compare", "fleet.yaml", "--policies", "sarathi:512"],
                        "error: --policies sarathi:512: found '512'"),
    "seed of no file": (["lab", "experiment", "sincere", "--out", "grid", "--seed", "1" + 30 * "0"],
                        "--seed"),
    "empty policy": (["compare", "fleet.yaml", "--policies", "penstock,"], "empty"),
    "policy twice": (["compare", "fleet.yaml", "--policies", "edf,edf"], "appears twice"),
    "no policies": (["compare", "fleet.yaml"], "--policies"),
    "a grid of policies": (["compare", "fleet.yaml", "--grid", "run.seed=1", "--policies", "edf"],
                           "no meaning beside --grid"),
    "no such method": (["capacity", "fleet.yaml", "--method", "bond"], "did you mean 'bound'?"),
    "a search of a bound": (["capacity", "fleet.yaml", "--method", "bound", "--low", "1"],
                            "--low: has no meaning beside --method bound"),
    "sweep of an unknown key": (["compare", "fleet.yaml", "--grid", "run.sed=1,2"], "'seed'"),
    "sweep of a bad value": (["compare", "fleet.yaml", "--grid", "traffic[0].rate_per_s=1,-2"],
                             "traffic[0].rate_per_s=-2"),
    "sweep without values": (["compare", "fleet.yaml", "--grid", "run.seed="], "no values"),
    "sweep of one key twice": (["compare", "fleet.yaml", "--grid", "run.seed=1", "--grid",
                                "run.seed=2"], "appears twice"),
    "sweep too large": (["compare", "fleet.yaml", "--seeds", "1000", "--grid",
                         "run.warmup_s=1,2,3,4,5,6,7,8,9,10,11"], "11,000 runs"),
    "sweep of unknown ending": (["compare", "fleet.yaml", "--grid", "run.seed=1", "--out",
                                 "rows.txt"], ".csv or .json"),
    "sweep over a file": (["compare", "fleet.yaml", "--grid", "run.seed=1", "--out", "fleet.yaml"],
                          "ends in"),
    "resume without a file": (["compare", "fleet.yaml", "--grid", "run.seed=1", "--resume"],
                              "--out"),
    "catalog without the name": (["catalog", "show", "a100-90gb"], "did you mean 'a100-80gb'"),
    "catalog that is missing": (["catalog", "list", "--catalog", "nowhere"], "nowhere"),
    "missing trace": (["trace", "info", "nowhere.csv"], "nowhere.csv"),
    "folder as trace": (["trace", "info", "."], "directory"),
    "unknown trace format": (["trace", "info", "fleet.yaml", "--format", "azur"], "'azure'"),
    "not a trace": (["trace", "info", "fleet.yaml"], "fleet.yaml"),
    "generate to an unknown ending": (["trace", "generate", "fleet.yaml", "t.xls"], ".csv"),
    "missing journal": (["lab", "replay", "journal-0.jsonl"], "journal-0.jsonl"),
    "missing table": (["profile", "fit", "step-time", "nowhere.csv"], "nowhere.csv"),
    "folder as table": (["profile", "fit", "step-time", "."], "no profile.json there"),
    "not a table": (["profile", "fit", "step-time", "fleet.yaml"], "fleet.yaml"),
    "missing kernel tables": (["profile", "fit", "kernels", "nowhere", "--model", "llama-3-8b",
                               "--accelerator", "a100-80gb"], "nowhere"),
    "no kernel tables": (["profile", "fit", "kernels", ".", "--model", "llama-3-8b",
                          "--accelerator",
                          "a100-80gb"], "holds no kernel table"),
    "missing loads": (["profile", "fit", "loading", "nowhere.csv"], "nowhere.csv"),
    "folder without loads": (["profile", "fit", "loading", "."], "neither a profile"),
    "not loads": (["profile", "fit", "loading", "fleet.yaml"], "fleet.yaml:1"),
    "no page cache": (["profile", "fit", "loading", "loads.csv", "--page-cache", "0"],
                      "--page-cache"),
    "endless page cache": (["profile", "fit", "loading", "loads.csv", "--page-cache", "inf"],
                           "--page-cache"),
    "not a run": (["lab", "report", "."], "summary.json"),
    "missing run": (["lab", "report", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_wrong_command_line_is_told_in_one_line(name, fails):
    arguments, word = FLAGS[name]
    assert word in fails(*arguments)


JOURNALS = {
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)), "j.jsonl:1"),
    "another version": (b'{"kind":"header","version":99}\n', "version 99"),
    "no header": (b'{"kind":"plan"}\n', "header"),
    "header without schedule": (b'{"kind":"header","version":1,"replica":0}\n', "schedule"),
    "replica that is not there": (b'{"kind":"header","version":1,"replica":7}\n', "7"),
    "unknown record": (b'{"kind":"header","version":1,"replica":0,"schedule":{"policy":"edf"},'
                       b'"kv_tokens":1600,"block_tokens":16,"prefix_caching":false,'
                       b'"max_in_flight":1}\n{"kind":"x"}\n', "j.jsonl:2"),
    "record without fields": (b'{"kind":"header","version":1,"replica":0,"schedule":{"policy":'
                              b'"edf"},"kv_tokens":1600,"block_tokens":16,"prefix_caching":false,'
                              b'"max_in_flight":1}\n{"kind":"add","now_s":0}\n', "request"),
    "header of odd types": (b'{"kind":"header","version":1,"replica":0,"schedule":{"policy":"edf"},'
                            b'"kv_tokens":"many","block_tokens":16,"prefix_caching":false,'
                            b'"max_in_flight":1}\n', "kv_tokens"),
}


@pytest.mark.parametrize("name", cases(JOURNALS, {
    }))
def test_a_broken_journal_is_told_in_one_line(name, fails, folder):
    content, word = JOURNALS[name]
    (folder / "j.jsonl").write_bytes(content)
    assert word in fails("lab", "replay", "j.jsonl")


TABLES = {
    "empty": (b"", "t.csv"),
    "binary": (b"\xff\xfe\x00" * 50, "t.csv"),
    "header only": (b"prefill_tokens,work,decode_seqs,decode_context_tokens,duration_s\n",
                    "no steps"),
    "column missing": (b"prefill_tokens,duration_s\n1,1\n", "no column"),
    "no duration": (b"prefill_tokens,work,decode_seqs,decode_context_tokens\n1,1,1,1\n",
                    "duration"),
    "too few": (b"prefill_tokens,work,decode_seqs,decode_context_tokens,duration_s\n1,1,1,1,1\n",
                "at least 20"),
    "zero seconds": (b"prefill_tokens,work,decode_seqs,decode_context_tokens,duration_s\n"
                     b"1,1,1,1,0\n", "more than 0"),
}


@pytest.mark.parametrize("name", cases(TABLES, {}))
def test_a_broken_table_of_steps_is_told_in_one_line(name, fails, folder):
    content, word = TABLES[name]
    (folder / "t.csv").write_bytes(content)
    assert word in fails("profile", "fit", "step-time", "t.csv")


def leaves(node, path=""):
    """Dotted paths of all single values."""
    if isinstance(node, dict):
        return [leaf for key, child in node.items() for leaf in leaves(child, f"{path}.{key}")]
    if isinstance(node, list):
        return [leaf for i, child in enumerate(node) for leaf in leaves(child, f"{path}[{i}]")]
    return [path.removeprefix(".")]


@pytest.mark.parametrize("value", ["0", "-1", "1e-9", "1e300", ".nan", "''", "[]", "{}", "x"])
def test_no_odd_value_of_any_field_is_a_bug(value, penstock, folder):
    penstock("run", "fleet.yaml", "--out", "whole", "--no-report")
    for leaf in leaves(yaml.safe_load((folder / "whole/fleet.yaml").read_text())):
        outcome = penstock("run", "whole/fleet.yaml", "--out", "odd", "--no-report",
                           "--set", "run.num_requests=3", "--set", f"{leaf}={value}")
        assert outcome.status in (0, 1, 2), (leaf, outcome.err)
        assert outcome.err.count("\n") == 1


def test_nothing_of_the_input_steers_the_terminal(fails):
    assert "\x1b" not in fails("run", "\x1b[31m.yaml")


def test_out_that_is_a_file_is_refused(fails):
    assert "is a file" in fails("run", "fleet.yaml", "--out", "unsized.yaml")


def test_out_below_a_file_is_refused(fails):
    assert "fleet.yaml" in fails("run", "fleet.yaml", "--out", "fleet.yaml/run")


def test_out_with_other_files_is_refused_and_they_stay(fails, folder):
    assert "other files" in fails("run", "fleet.yaml", "--out", ".")
    assert (folder / "fleet.yaml").read_text() == FLEET


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_out_in_a_closed_folder_is_refused(fails, folder):
    (folder / "closed").mkdir(mode=0o500)
    assert "Permission denied" in fails("run", "fleet.yaml", "--out", "closed/run")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write")
def test_out_where_no_folder_can_be_made_is_refused(fails):
    assert "/proc/penstock" in fails("run", "fleet.yaml", "--out", "/proc/penstock/run")


def test_binary_junk_as_a_fleet_file(fails, folder):
    (folder / "fleet.yaml").write_bytes(os.urandom(64) + b"\xff")
    assert "fleet.yaml" in fails("run", "fleet.yaml", "--out", "out")
