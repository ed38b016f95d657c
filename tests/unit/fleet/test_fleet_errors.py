"""Every broken fleet file gets one line: where, what was found, what was expected."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import load_fleet, parse_fleet

VALID = """\
accelerators:
  - {name: a100-80gb, count: 8, price_per_hour: 4.10}
  - {name: l40s, count: 4}
models:
  - {name: llama-3-8b, precisions: [bf16, int8]}
service_classes:
  - {name: interactive, priority: 1, slo: {ttft_s: 6, itl_s: 0.05, itl: paced, percentile: 99}}
  - {name: batch, priority: 3, slo: {e2e_s: 600, percentile: 99}}
traffic:
  - {model: llama-3-8b, mix: {interactive: 0.34, batch: 0.66}, trace: azure-2023-code, rate_per_s: 3.5}
replicas:
  - {model: llama-3-8b, accelerator: a100-80gb, count: 2}
policies: {schedule: penstock, route: least_loaded, admit: all, scale: none}
engine: {memory_fraction: 0.9}
run: {seed: 1}
"""  # noqa: E501
TRAFFIC = VALID.splitlines()[9].strip(" -")


def message_of(text: str | bytes, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        parse_fleet(text, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_the_starting_point_is_valid() -> None:
    assert parse_fleet(VALID).name == "fleet"


# (what to replace, with what, the line that the message names, parts of the message)
KEYS = [
    ("ttft_s: 6", "ttft: 6", 7, ["service_classes[0].slo.ttft", "unknown key",
                                 "did you mean 'ttft_s'?"]),
    ("rate_per_s", "rate", 10, ["traffic[0].rate", "did you mean 'rate_per_s'?"]),
    ("replicas:", "replica:", 11, ["replica: unknown key", "'replicas'"]),
    ("seed: 1", "sede: 1", 15, ["run.sede", "'seed'"]),
    ("memory_fraction", "memory", 14, ["engine.memory", "'memory_fraction'"]),
    ("price_per_hour", "price", 2, ["accelerators[0].price", "'price_per_hour'"]),
    ("precisions", "precision", 5, ["models[0].precision", "'precisions'"]),
    ("admit: all", "admission: all", 13, ["policies.admission", "'admit'"]),
    ("schedule: penstock", "schedule: {name: sarathi, chunk: 512}", 13,
     ["policies.schedule.chunk", "'chunk_tokens'"]),
    ("count: 2", "count: 2, parallelism: {tp: 2}", 12,
     ["replicas[0].parallelism.tp", "unknown key", "pipeline", "tensor"]),
    ("seed: 1", '"a\\nb": 1', 15, ["'a\\nb'", "unknown key"]),
    ("run:", "name: x\nname: y\nrun:", 16, ["key 'name' appears twice", "line 15"]),
    ("model: llama-3-8b, mix", "model: llama-3-8b, model: x, mix", 10, ["'model' appears twice"]),
    ("models:\n  - {name: llama-3-8b, precisions: [bf16, int8]}\n", "", 1,
     ["models: missing", "required"]),
    ("name: a100-80gb, ", "", 2, ["accelerators[0].name: missing"]),
]
NUMBERS = [
    ("count: 8", "count: -8", 2, ["accelerators[0].count", "at least 1", "found -8"]),
    ("count: 8", "count: 0", 2, ["at least 1", "found 0"]),
    ("count: 8", "count: 2.5", 2, ["a whole number", "found 2.5"]),
    ("count: 8", "count: true", 2, ["a whole number", "found true"]),
    ("count: 8", "count: '8'", 2, ["a whole number", "found '8'"]),
    ("count: 8", "count: " + "9" * 30, 2, ["30 digits"]),
    ("4.10", ".nan", 2, ["price_per_hour", "finite", "nan"]),
    ("4.10", "-4.10", 2, ["price_per_hour", "at least 0", "-4.1"]),
    ("4.10", "1e300", 2, ["price_per_hour", "at most 1,000,000,000"]),
    ("rate_per_s: 3.5", "rate_per_s: 0", 10, ["rate_per_s", "more than 0", "found 0"]),
    ("rate_per_s: 3.5", "rate_per_s: .inf", 10, ["rate_per_s", "finite", "inf"]),
    ("rate_per_s: 3.5", "rate_per_s: 3,5", 10, ["traffic[0].'5'", "unknown key"]),
    ("rate_per_s: 3.5", "rate_per_s: fast", 10, ["a number", "found 'fast'"]),
    ("rate_per_s: 3.5", "rate_per_s: [3.5]", 10, ["a number", "found a list"]),
    ("ttft_s: 6", "ttft_s: -6", 7, ["ttft_s", "more than 0", "-6"]),
    ("percentile: 99}", "percentile: 101}", 7, ["percentile", "at most 100", "101"]),
    ("priority: 1", "priority: high", 7, ["priority", "a whole number", "'high'"]),
    ("memory_fraction: 0.9", "memory_fraction: 90", 14, ["memory_fraction", "at most 1", "90"]),
    ("seed: 1", "seed: 1.0", 15, ["run.seed", "a whole number"]),
    ("seed: 1", "step_time_noise: -0.1", 15, ["step_time_noise", "at least 0"]),
]
TYPES = [
    ("name: interactive", "name: 7", 7, ["service_classes[0].name", "text", "found 7"]),
    ("name: interactive", "name: ''", 7, ["a name without spaces", "found ''"]),
    ("name: interactive", "name: my class", 7, ["a name without spaces", "'my class'"]),
    ("name: interactive", "name: " + "x" * 300, 7, ["at most 200", "..."]),
    ("itl: paced", "itl: pacd", 7, ["slo.itl", "'pacd'", "did you mean 'paced'?"]),
    ("itl: paced", "itl: 3", 7, ["slo.itl", "found 3", "paced, strict"]),
    ("[bf16, int8]", "[bf17]", 5, ["precisions[0]", "'bf17'", "bf16"]),
    ("[bf16, int8]", "bf16", 5, ["precisions", "a list", "'bf16'"]),
    ("[bf16, int8]", "[]", 5, ["precisions", "at least one"]),
    ("[bf16, int8]", "[bf16, bf16]", 5, ["precisions", "twice"]),
    ("run: {seed: 1}", "run: 7", 15, ["run", "a mapping", "found 7"]),
    ("run: {seed: 1}", "run:", 15, ["run", "a mapping", "found nothing"]),
    ("schedule: penstock", "schedule: 7", 13, ["policies.schedule", "a name or a mapping",
                                               "found 7"]),
    ("trace: azure-2023-code", "trace: []", 10, ["traffic[0].trace", "a name or a mapping"]),
    ("{interactive: 0.34, batch: 0.66}", "interactive", 10, ["mix", "a mapping"]),
    (TRAFFIC, "azure-2023-code", 10, ["traffic[0]", "a mapping", "'azure-2023-code'"]),
]
REFERENCES = [
    ("name: a100-80gb, count", "name: a100-80g, count", 2,
     ["accelerators[0].name", "unknown accelerator 'a100-80g'", "did you mean 'a100-80gb'?"]),
    ("{name: llama-3-8b, pre", "{name: lama-3-8b, pre", 5,
     ["models[0].name", "unknown model 'lama-3-8b'", "did you mean 'llama-3-8b'?"]),
    ("accelerator: a100-80gb", "accelerator: h100-80gb", 12,
     ["replicas[0].accelerator", "unknown accelerator 'h100-80gb'", "a100-80gb"]),
    ("replicas:\n  - {model: llama-3-8b", "replicas:\n  - {model: llama-3-70b", 12,
     ["replicas[0].model", "unknown model", "llama-3-8b"]),
    ("traffic:\n  - {model: llama-3-8b", "traffic:\n  - {model: llama", 10,
     ["traffic[0].model", "unknown model 'llama'"]),
    ("mix: {interactive", "mix: {interactve", 10,
     ["mix.interactve", "unknown service class", "did you mean 'interactive'?"]),
    ("count: 2}", "count: 2, service_classes: [bulk]}", 12,
     ["service_classes[0]", "unknown service class 'bulk'"]),
    ("count: 2}", "count: 2, service_classes: [batch, batch]}", 12, ["'batch' appears twice"]),
    ("count: 2}", "count: 2, service_classes: []}", 12, ["at least one", "empty list"]),
    ("count: 2}", "count: 2, service_classes: [batch]}", 11,
     ["no entry serves class 'interactive'"]),
    ("count: 2}", "count: 2, precision: fp8}", 12, ["precision", "'fp8'", "bf16, int8"]),
    ("count: 2}", "count: 2, schedule: sarathy}", 12,
     ["replicas[0].schedule", "'sarathy'", "'sarathi'"]),
    ("count: 2}", "count: 2, step_time: vidur-a100}", 12,
     ["replicas[0].step_time", "'vidur-a100'", "vidur-a100-llama-3-8b"]),
    ("count: 2}", "count: 2, step_time: {kind: linear}}", 12, ["step_time", "coefficients"]),
    ("count: 2}", "count: 2, step_time: {kind: roofline, name: x}}", 12, ["keep one"]),
    ("count: 2}", "count: 2, step_time: fits/mine.yaml}", 12, ["no file 'fits/mine.yaml'"]),
    ("schedule: penstock", "schedule: penstok", 13,
     ["unknown scheduling policy 'penstok'", "did you mean 'penstock'?"]),
    ("route: least_loaded", "route: round-robin", 13,
     ["policies.route", "did you mean 'round_robin'?"]),
    ("route: least_loaded", "route: {name: round_robin, seed: 3}", 13,
     ["policies.route.seed", "takes none"]),
    ("admit: all", "admit: al", 13, ["policies.admit", "'all'"]),
    ("scale: none", "scale: auto", 13, ["policies.scale", "'auto'", "none"]),
    ("trace: azure-2023-code", "trace: azure-code", 10,
     ["'azure-code'", "did you mean 'azure-2023-code'?"]),
    ("trace: azure-2023-code", "trace: mine.csv", 10, ["'mine.csv'", "trace: {file: PATH}"]),
    ("trace: azure-2023-code", "trace: {file: mine.csv}", 10,
     ["traffic[0].trace.file", "no file 'mine.csv'"]),
    ("name: l40s", "name: a100-80gb", 3, ["accelerators[1].name", "appears twice",
                                          "accelerators[0]"]),
    ("name: batch", "name: interactive", 8, ["service_classes[1].name", "appears twice"]),
]
MEANING = [
    ("0.66", "0.6", 10, ["traffic[0].mix", "sum to 0.94", "expected 1"]),
    ("mix: {interactive: 0.34, batch: 0.66}, ", "", 10, ["no mix"]),
    ("rate_per_s: 3.5", "tenants: {a: 0.5, b: 0.6}, rate_per_s: 3.5", 10,
     ["tenants", "sum to 1.1"]),
    (", rate_per_s: 3.5", "", 10, ["no rate_per_s"]),
    ("trace: azure-2023-code, ", "", 10, ["states none; expected one of trace"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, lengths: sharegpt-8k", 10,
     ["states trace and lengths; expected one"]),
    ("trace: azure-2023-code", "lengths: {prompt: {fixed: 3}, output: {}}", 10,
     ["lengths.output", "found nothing", "expected fixed"]),
    ("trace: azure-2023-code", "lengths: {prompt: {shares: [0, 1], tokens: [9, 1]}, "
     "output: {fixed: 1}}", 10, ["lengths.prompt", "must not fall"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: gamma", 10,
     ["traffic[0].arrivals", "gamma arrivals need gap_cv"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: poison", 10,
     ["unknown arrival process", "did you mean 'poisson'?"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: own", 10,
     ["only a trace file has times of its own"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: {name: ramp, low: 1}", 10,
     ["ramp arrivals need start"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: {name: poisson, low: 1}", 10,
     ["arrivals.low", "no such setting"]),
    ("trace: azure-2023-code",
     "trace: azure-2023-code, arrivals: {name: diurnal, peak_to_mean: 3}", 10,
     ["peak_to_mean is 3", "1 to 2"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: closed", 10,
     ["traffic[0].arrivals", "closed arrivals need clients"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: {name: closed, clients: 8}", 10,
     ["traffic[0].rate_per_s", "beside closed arrivals", "the clients decide the rate"]),
    ("trace: azure-2023-code, ", "trace: azure-2023-code, duration_s: 5, "
     "arrivals: {name: closed, clients: 8}, ", 10, ["closed arrivals"]),
    ("trace: azure-2023-code", "trace: azure-2023-code, arrivals: sessions", 10,
     ["traffic[0].arrivals", "only a trace file has sessions"]),
    ("ttft_s: 6,", "ttft_s: 6, e2e_s: 5,", 7, ["ttft_s", "6 s is later than e2e_s, 5 s"]),
    ("count: 2}", "count: 9}", 12, ["need 9 a100-80gb", "the fleet has 8"]),
    ("count: 2}", "parallelism: {tensor: 16}}", 12, ["parallelism.tensor", "16 is more than"]),
    ("count: 2}", "parallelism: {tensor: 3}}", 12,
     ["parallelism.tensor: 3 ranks do not divide the 32 attention heads of llama-3-8b"]),
    ("count: 2}", "parallelism: {data: 2}}", 12,
     ["parallelism.data", "llama-3-8b has no experts", "expected count"]),
    ("count: 2}", "parallelism: {pipeline: 64}}", 12,
     ["parallelism.pipeline", "64 is more than the 32 layers"]),
    ("azure-2023-code", "azure-2023-conv", 10, ["14,050 tokens", "context", "llama-3-8b"]),
    ("memory_fraction: 0.9", "kv_tokens: 4096", 10, ["7,437 tokens", "KV cache", "4,096"]),
    ("run:", "variant: {accelerator: l40s}\nsizing: {groups: [{accelerator: l40s}]}\nrun:", 15,
     ["variant", "keep one"]),
    ("run:", "sizing: {max_replicas: 1, groups: [{min_replicas: 2}]}\nrun:", 15,
     ["sizing.max_replicas", "1 is fewer than the 2"]),
]


@pytest.mark.parametrize(("old", "new", "line", "parts"),
                         [*KEYS, *NUMBERS, *TYPES, *REFERENCES, *MEANING])
def test_a_broken_file_gets_one_helpful_line(old: str, new: str, line: int,
                                             parts: list[str]) -> None:
    assert old in VALID
    message = message_of(VALID.replace(old, new, 1))
    assert message.startswith(f"fleet.yaml:{line}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("text", "parts"), [
    ("", ["fleet.yaml: empty", "accelerators"]),
    ("# only a comment\n", ["fleet.yaml: empty"]),
    ("---\n---\na: 1\n", ["fleet.yaml:2", "second document"]),
    ("- a\n- b\n", ["expected a mapping", "found a list"]),
    ("just text", ["expected a mapping", "found a single value"]),
    ("a: [1, 2\nb: 3\n", ["fleet.yaml:2", "not valid YAML"]),
    ("a: 'open\n", ["not valid YAML"]),
    ("a:\n\t- b\n", ["fleet.yaml:2", "not valid YAML"]),
    ("a: \x07bell\n", ["not valid YAML"]),
    ("a: !!python/object/apply:os.system [ls]\n", ["fleet.yaml:1", "tag", "not allowed"]),
    ("a: !secret x\n", ["tag '!secret'", "not allowed"]),
    ("? [a, b]\n: 1\n", ["a key must be plain text"]),
    ("a: *nowhere\n", ["alias *nowhere"]),
    ("a: &x [*x]\n", ["alias *x"]),
    ("[" * 2000, ["nested more than 24 levels"]),
    ("a: " + "[" * 30 + "]" * 30, ["nested more than 24 levels"]),
    ("a: 1\n" * 2, ["fleet.yaml:2", "'a' appears twice"]),
    (b"name: caf\xe9\n", ["fleet.yaml:1", "not UTF-8", "0xe9"]),
    (b"\xff\xfea\x00:\x00", ["not UTF-8"]),
    ("x" * 5_000_001, ["5,000,001 characters", "at most 5,000,000"]),
])
def test_text_that_is_no_fleet_gets_one_line(text: str | bytes, parts: list[str]) -> None:
    message = message_of(text)
    for part in parts:
        assert part in message


def test_a_bomb_of_aliases_is_stopped_by_counting() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 100,000 values" in message_of("\n".join(lines))


def test_a_model_that_does_not_fit_is_refused_with_the_shortfall() -> None:
    large = VALID.replace("llama-3-8b", "llama-3-70b")
    message = message_of(large.replace("count: 2}", "parallelism: {tensor: 1}}"))
    assert message.startswith("fleet.yaml:12: replicas[0]: model does not fit: llama-3-70b in bf16")
    assert "GiB per accelerator" in message
    assert "tensor" in message


def test_a_fleet_without_room_for_its_model_cannot_be_sized() -> None:
    text = VALID.replace("llama-3-8b", "llama-3-70b").replace("count: 8", "count: 1")
    text = text.replace("name: l40s, count: 4", "name: l40s, count: 1")
    text = text.replace("replicas:\n", "").replace(
        "  - {model: llama-3-70b, accelerator: a100-80gb, count: 2}\n", "")
    message = message_of(text + "sizing: {max_replicas: 4}\n")
    assert message.startswith("fleet.yaml:1: accelerators: model does not fit: llama-3-70b")
    # Without a wish for sizing it is planned, and a plan may find a precision that fits.
    assert parse_fleet(text).sizing.groups == ()


def test_several_problems_are_counted_and_the_first_in_the_file_is_told() -> None:
    broken = VALID.replace("seed: 1", "sede: 1").replace("count: 8", "count: -8")
    message = message_of(broken.replace("priority: 3", "priority: x"))
    assert message.startswith("fleet.yaml:2: accelerators[0].count")
    assert message.endswith("(and 2 more problems)")
    assert message_of(broken).endswith("(and 1 more problem)")


def test_a_path_that_is_no_fleet_file_is_named(tmp_path: Path) -> None:
    for path, part in ((tmp_path, "is a folder"), (tmp_path / "none.yaml", "no such file"),
                       (Path("a\0b"), "cannot be read")):
        with pytest.raises(InputError) as caught:
            load_fleet(path)
        assert part in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_of_more_than_five_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * 5_000_001)
    with pytest.raises(InputError, match="more than 5,000,000 bytes"):
        load_fleet(path)


@pytest.mark.parametrize(("overrides", "parts"), [
    ({"run.sede": 1}, ["override: run.sede", "'seed'"]),
    ({"run.seed": "x"}, ["override: run.seed", "a whole number", "'x'"]),
    ({"traffic[3].rate_per_s": 1}, ["'traffic[3].rate_per_s'", "'3'", "a list of 1"]),
    ({"traffic.first.rate_per_s": 1}, ["'first' is no entry"]),
    ({"run.seed.x": 1}, ["would lie within 1"]),
    ({"": 1}, ["expected a path"]),
    ({".".join("abcdefghijklmnopqrstuvwxyz"): 1}, ["expected a path"]),
    ({"replicas[0].count": 40}, ["need 40 a100-80gb"]),
])
def test_a_broken_override_says_so(overrides: dict[str, object], parts: list[str]) -> None:
    message = message_of(VALID, overrides=overrides)
    for part in parts:
        assert part in message


def test_a_feed_forward_that_ranks_cannot_share_is_refused() -> None:
    message = message_of(VALID.replace("llama-3-8b", "llama-2-13b")
                         .replace("count: 2}", "parallelism: {tensor: 5}}"))
    assert message.endswith("replicas[0].parallelism.tensor: 5 ranks do not divide the "
                            "feed-forward of 13824 of llama-2-13b")


def test_ranks_are_chosen_among_those_that_can_share_the_model() -> None:
    """Of 10 heads of keys and values 4 ranks could not have equal parts: not even asked."""
    message = message_of(VALID.replace("llama-3-8b", "phi-4").replace("name: a100-80gb", "name: t4")
                         .replace("accelerator: a100-80gb", "accelerator: t4"))
    assert "model does not fit: phi-4" in message
