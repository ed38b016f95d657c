"""penstock queue: answers, exit statuses, and files with upstream's names."""

import json

import pytest

ARGUMENTS = ("--alpha", 12, "--beta", 0.05, "--gamma", 0.0005, "--input-tokens", 128,
             "--output-tokens", 512, "--max-batch", 48)
REST = {"RPS": 2.316558, "maxBatchSize": 48, "AvgInputTokens": 128, "AvgOutputTokens": 512,
        "alpha": 12, "beta": 0.05, "gamma": 0.0005, "maxQueueSize": 128, "targetTTFT": 60,
        "targetITL": 20}


@pytest.fixture
def rest(folder):
    (folder / "queue.json").write_text(json.dumps({
        name.upper() if number % 2 else name.lower(): value
        for number, (name, value) in enumerate(REST.items())}))
    return "queue.json"


def test_published_figures_by_file(penstock, rest):
    """The figures are upstream's own output for this queue."""
    solved = penstock("lab", "queue", "solve", "--file", rest, "--mode", "inferno", "--json")
    assert solved.status == 0
    assert solved.json["in_service"] == pytest.approx(20.872946, rel=2e-3)
    assert solved.json["ttft_ms"] == pytest.approx(41.091, rel=2e-3)
    sized = penstock("lab", "queue", "size", "--file", rest, "--mode", "inferno", "--json")
    assert sized.json["rate_per_s"] == pytest.approx(2.9494622, rel=2e-3)
    assert sized.json["rate_itl_per_s"] == pytest.approx(2.971982, rel=2e-3)
    found = penstock("lab", "queue", "optimize", "--file", rest, "--mode", "inferno",
                     "--max-batch", 256,
                     "--json")
    assert (found.json["max_batch"], found.json["calls"]) == (49, 8)


def test_options_come_before_the_file(penstock, rest):
    slow = penstock("lab", "queue", "solve", "--file", rest, "--alpha", 24, "--json")
    fast = penstock("lab", "queue", "solve", "--file", rest, "--json")
    assert slow.json["itl_ms"] > fast.json["itl_ms"]


def test_own_mode_gives_percentiles(penstock):
    found = penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 2, "--json").json
    for name in ("ttft", "itl"):
        values = list(found[f"{name}_percentiles_ms"].values())
        assert values == sorted(values)
    assert found["throughput_per_s"] == 2
    table = penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 2)
    assert table.status == 0
    assert "ttft_percentiles_ms" in table.out


def test_a_saturated_queue_is_told(penstock):
    done = penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 1e9, "--json")
    assert done.status == 0  # no target was missed
    assert done.json["capacity_per_s"] < 1e9
    assert done.err.startswith("saturated: the rate is not below the capacity")
    assert penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 1).err == ""


def test_a_table_has_a_title_and_no_figure_beyond_sense(penstock):
    found = penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 0.01)
    lines = found.out.splitlines()
    assert lines[0].strip() == "One replica as a queue"
    (wait,) = [line.split()[-1] for line in lines if "wait_ms" in line]
    assert wait == "0"
    assert "e-" not in found.out
    assert penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 0.01,
                    "--json").json["wait_ms"] > 0


@pytest.mark.parametrize("command", ["size", "optimize"])
@pytest.mark.parametrize("mode", ["penstock", "inferno"])
def test_targets_out_of_reach_end_with_1(penstock, command, mode):
    missed = penstock("lab", "queue", command, *ARGUMENTS, "--ttft-ms", 1, "--itl-ms", 1, "--mode",
                      mode)
    assert missed.status == 1
    assert missed.err.startswith("infeasible: ")
    assert missed.err.count("\n") == 1
    as_json = penstock("lab", "queue", command, *ARGUMENTS, "--ttft-ms", 1, "--itl-ms", 1,
                       "--mode", mode,
                       "--json")
    assert as_json.status == 1
    assert as_json.json["feasible"] is False


def test_sizes_meet_their_percentile(penstock):
    sized = penstock("lab", "queue", "size", *ARGUMENTS, "--ttft-ms", 200, "--itl-ms", 30,
                     "--percentile", 99, "--json")
    assert sized.status == 0
    assert sized.json["ttft_percentiles_ms"]["99"] <= 200.01
    assert sized.json["itl_percentiles_ms"]["99"] <= 30.01
    best = penstock("lab", "queue", "optimize", *ARGUMENTS, "--ttft-ms", 200, "--itl-ms", 30,
                    "--percentile", 99, "--json")
    assert best.json["rate_per_s"] >= 0.99 * sized.json["rate_per_s"]


@pytest.mark.parametrize("tokens", [0, 1, 500, 639])
@pytest.mark.parametrize("command", [("solve", "--rate", 1), ("size",), ("optimize",)])
def test_kv_memory_must_hold_a_request(penstock, command, tokens):
    name, *more = command
    found = penstock("lab", "queue", name, *ARGUMENTS, *more, "--kv-tokens", tokens)
    assert (found.status, found.err) == (
        2, f"error: --kv-tokens: found {tokens}; a request needs 640 tokens\n")
    assert penstock("lab", "queue", name, *ARGUMENTS, *more, "--kv-tokens", 640).status == 0


def test_overload_is_infinite_latency(penstock):
    found = penstock("lab", "queue", "solve", *ARGUMENTS, "--rate", 99, "--json")
    assert found.status == 0
    assert found.json["ttft_ms"] is None
    assert found.json["utilisation"] == 1.0


def test_targets_of_0_are_unset_as_published_in_that_mode_alone(penstock, folder):
    """So Inferno's own files keep their meaning."""
    (folder / "unset.json").write_text(json.dumps(REST | {"targetITL": 0, "maxBatchedTokens": 0}))
    with_0 = penstock("lab", "queue", "size", "--file", "unset.json", "--mode", "inferno", "--json")
    (folder / "none.json").write_text(json.dumps(
        {name: value for name, value in REST.items() if name != "targetITL"}))
    assert with_0.status == 0
    assert with_0.json == penstock("lab", "queue", "size", "--file", "none.json", "--mode",
                                   "inferno",
                                   "--json").json
    ours = penstock("lab", "queue", "size", "--file", "unset.json", "--max-step-tokens", 512)
    assert (ours.status, "unset.json: targetITL: found 0" in ours.err) == (2, True)


def test_a_file_of_the_other_mode(penstock, folder, rest):
    """An upstream file bounds what waits; our fields in one are no upstream file."""
    found = penstock("lab", "queue", "solve", "--file", rest)
    assert found.status == 0
    assert found.err == ("queue.json: MAXQUEUESIZE: only --mode inferno has it; here waiting is "
                         "never bounded\n")
    (folder / "ours.json").write_text(json.dumps(REST | {"percentile": 99}))
    found = penstock("lab", "queue", "size", "--file", "ours.json", "--mode", "inferno")
    assert (found.status, "ours.json: percentile: only --mode penstock" in found.err) == (2, True)


def test_errors_name_the_field_of_the_file(penstock, folder):
    (folder / "bad.json").write_text(json.dumps(REST | {"AvgOutputTokens": 0}))
    found = penstock("lab", "queue", "solve", "--file", "bad.json", "--mode", "inferno")
    assert found.err == "error: bad.json: AvgOutputTokens: expected at least 1, found 0\n"


@pytest.mark.parametrize(("arguments", "complaint"), [
    (("solve", *ARGUMENTS), "RPS is missing; give --rate"),
    (("size", "--alpha", 1), "beta is missing"),
    (("size", *ARGUMENTS, "--mode", "infern"), "did you mean 'inferno'?"),
    (("size", *ARGUMENTS, "--alpha", -1), "'--alpha': expected at least 0, found -1"),
    (("size", *ARGUMENTS, "--alpha", "nan"), "expected a number, found 'nan'"),
    (("size", *ARGUMENTS, "--alpha", ".nan"), "expected a finite number"),
    (("size", *ARGUMENTS, "--max-batch", 1.5), "expected a whole number"),
    (("size", *ARGUMENTS, "--max-batch", 0), "expected at least 1"),
    (("size", *ARGUMENTS, "--max-batch", 1e9), "expected at most"),
    (("size", *ARGUMENTS, "--max-batch", 20_001),
     "'--max-batch': expected at most 20,000, found 20001"),
    (("size", *ARGUMENTS, "--output-tokens", 0),
     "'--output-tokens': expected at least 1, found 0"),
    (("size", *ARGUMENTS, "--max-batch", 0), "'--max-batch': expected at least 1, found 0"),
    (("size", *ARGUMENTS, "--percentile", 100),
     "'--percentile': expected less than 100, found 100"),
    (("size", *ARGUMENTS, "--percentile", 0), "'--percentile': expected more than 0, found 0"),
    (("solve", *ARGUMENTS, "--rate", 0, "--mode", "inferno"), "--rate: found 0; expected a positi"),
    (("solve", *ARGUMENTS, "--rate", "1e308"),
     "'--rate': expected at most 1,000,000,000, found 1e+308"),
    (("solve", *ARGUMENTS, "--rate", "1e9", "--mode", "inferno"), "--rate: found 1e+09 per sec"),
    (("size", *ARGUMENTS, "--max-step-tokens", 0), "tokens': expected at least 1, found 0"),
    (("size", *ARGUMENTS, "--max-step-tokens", 1),
     "--max-step-tokens: found 1; expected at least 2"),
    (("size", *ARGUMENTS, "--max-step-tokens", 0, "--mode", "inferno"),
     "'--max-step-tokens': expected at least 1, found 0"),
    (("size", *ARGUMENTS, "--delta", 1, "--max-step-tokens", 64),
     "--max-step-tokens: has no meaning beside --delta"),
    (("size", *ARGUMENTS, "--ttft-ms", 0), "--ttft-ms: found 0; expected more than 0"),
    (("optimize", *ARGUMENTS, "--itl-ms", 0), "--itl-ms: found 0; expected more than 0"),
    (("size", *ARGUMENTS, "--tokens-per-s", 0), "--tokens-per-s: found 0; expected more than 0"),
    (("size", *ARGUMENTS, "--percentile", 99, "--mode", "inferno"),
     "--percentile: only --mode penstock has it"),
    (("size", *ARGUMENTS, "--kv-tokens", 9999, "--mode", "inferno"),
     "--kv-tokens: only --mode penstock has it"),
    (("solve", *ARGUMENTS, "--rate", 1, "--arrivals-scv", 2, "--mode", "inferno"),
     "--arrivals-scv: only --mode penstock has it"),
    (("size", *ARGUMENTS, "--prompt-scv", 1, "--mode", "inferno"), "--prompt-scv: only --mode pen"),
    (("size", *ARGUMENTS, "--output-scv", 1, "--mode", "inferno"), "--output-scv: only --mode pen"),
    (("size", *ARGUMENTS, "--max-queue", 9), "--max-queue: only --mode inferno has it"),
    (("size", "--file", "absent.json"), "absent.json: cannot be read"),
    (("optimize", *ARGUMENTS, "--delta", 1, "--mode", "inferno"),
     "--delta: expected iteration times")])
def test_bad_input_is_one_line(penstock, arguments, complaint):
    found = penstock("lab", "queue", *arguments)
    assert found.status == 2
    assert complaint in found.err
    assert found.err.count("\n") == 1


@pytest.mark.parametrize(("text", "complaint"), [
    ("{", "is not JSON"), ("[1]", "expected an object"), ('{"alfa": 1}', "did you mean 'alpha'?"),
    ('{"alpha": 1, "Alpha": 2}', "bad.json: field 'Alpha' is there twice"),
    ('{"alpha": 1, "alpha": 2}', "bad.json: field 'alpha' is there twice"),
    ('{"alpha": true}', "bad.json: alpha: expected a number, found true"),
    ('{"alpha": {}}', "bad.json: alpha: expected a number, found a mapping"),
    ('{"alpha": 1%s}' % ("0" * 400), "bad.json: alpha: expected a number, found 1000"),
    ('"alpha"', "bad.json: found a text; expected an object"),
    ('{"alpha": "x"}', "expected a number"), ('{"alpha": true}', "expected a number"),
    ('{"alpha": 1e999}', "bad.json: alpha: expected a finite number, found inf")])
def test_bad_files_are_one_line(penstock, folder, text, complaint):
    (folder / "bad.json").write_text(text)
    found = penstock("lab", "queue", "size", "--file", "bad.json")
    assert found.status == 2
    assert complaint in found.err
    assert found.err.count("\n") == 1
