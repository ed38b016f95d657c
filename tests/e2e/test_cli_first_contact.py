"""From nothing to a fleet file, and to a plan without one."""

import json
from datetime import date

import orjson
import pytest
import typer

from penstock.cli.dialogue import ask

BASIC = ("--model", "llama-3.2-1b", "--gpu", "l4:2", "--rate", "2")
SMALL = (*BASIC, "--requests", "60", "--prompt-tokens", "200", "--output-tokens", "20")
CONFIG = {"model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048,
          "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
          "vocab_size": 128256, "max_position_embeddings": 32768, "tie_word_embeddings": True}
CHIP = """\
accelerators:
  my-chip:
    {vendor: acme, memory_gib: 48, bandwidth_gb_per_s: 900, peak_tflops: {fp16: 200, bf16: 200},
     power_w: 150, pcie_gb_per_s: 32, price_per_hour: 0.70, source: datasheet}
"""


def test_init_writes_a_file_that_check_passes_and_plan_takes(penstock, folder):
    done = penstock("init", "mine/first.yaml", *SMALL, "--class", "chat", "--class", "batch")
    assert (done.status, done.out) == (0, "")
    assert "engine: vllm 0.33.0, its own scheduler" in done.err
    assert "next: penstock plan mine/first.yaml" in done.err
    checked = penstock("check", "mine/first.yaml")
    assert (checked.status, checked.err) == (0, "")
    assert checked.out == "mine/first.yaml: no problems; llama-3.2-1b on l4\n"
    planned = penstock("plan", "mine/first.yaml", "--no-report", "--json")
    assert planned.status == 0
    assert "assumed" not in planned.json


def test_init_never_replaces_a_file_unasked(penstock, folder):
    before = (folder / "fleet.yaml").read_text()
    done = penstock("init", *BASIC)
    assert done.status == 2
    assert done.err == "error: fleet.yaml: is there already; --force replaces it\n"
    assert (folder / "fleet.yaml").read_text() == before
    assert penstock("init", *BASIC, "--force").status == 0
    assert (folder / "fleet.yaml").read_text() != before


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "no --model and no --gpu and no --rate"),
    (["--model", "llama-3.2-1b", "--gpu", "l4"], "no --rate"),
    ([*BASIC, "--gpu", "l4:x"], "expected NAME:COUNT"),
    ([*BASIC, "--gpu", "4xH100"], "--gpu '4xH100': expected NAME:COUNT, such as H100:4"),
    ([*BASIC, "--gpu", "4 H100"], "expected NAME:COUNT, such as H100:4"),
    ([*BASIC, "--gpu", "mi300x x 8"], "expected NAME:COUNT, such as mi300x:8"),
    ([*BASIC, "--gpu", "4"], "expected NAME:COUNT, such as h100-80gb:4"),
    ([*BASIC, "--gpu", "h10"], "--gpu: unknown accelerator 'h10'; did you mean 'h100'?"),
    ([*BASIC, "--gpu", "l4"], "appears twice"),
    ([*BASIC, "--price", "l40s=1"], "--price l40s: no --gpu of this name"),
    ([*BASIC, "--price", "free"], "--price: expected a number"),
    ([*BASIC, "--ttft", "0"], "expected more than 0"),
    ([*BASIC, "--class", "chat:share=2"], "--class chat:share: found '2'"),
    ([*BASIC, "--class", "chat:shar=0.2"], "did you mean 'share'?"),
    ([*BASIC, "--class", "chat:0.2"], "expected KEY=VALUE"),
    ([*BASIC, "--class", "chat", "--class", "chat"], "appears twice"),
    ([*BASIC, "--class", "chat:ttft=1:ttft=5"], "--class chat: ttft appears twice"),
    ([*BASIC, "--itl", "0.1", "--tpot", "0.1"], "--itl and --tpot: expected one of them"),
    ([*BASIC, "--tpot", "0"], "'--tpot': expected more than 0"),
    ([*BASIC, "--class", "chat:itl=1:tpot=1"], "--class chat: both of itl and tpot"),
    ([*BASIC, "--class", "chat:share=0.5:rate=1"], "both of share and rate"),
    ([*BASIC, "--class", "chat:rate=9"], "--rate 2: the classes state rates of their own, 9 in"),
    ([*BASIC, "--class", ""], "--class '': expected NAME"),
    ([*BASIC, "--class", "chatt"], "did you mean 'chat'?"),
    ([*BASIC, "--percentile", "0.99"], "expected at least 1"),
    ([*BASIC, "--prompt-tokens", "p50=9,p50=12,p99=30", "--output-tokens", "5"],
     "p50 appears twice"),
    ([*BASIC, "--precisions", ""], "precisions[0]"),
    ([*BASIC, "--trace", "azure-2023-cod"], "did you mean 'azure-2023-code'?"),
    ([*BASIC, "--trace", "nowhere.csv"], "--trace: no file 'nowhere.csv'"),
    ([*BASIC, "--trace", "azure-2023-code", "--prompt-tokens", "5"], "states lengths too"),
    ([*BASIC, "--prompt-tokens", "5"], "--output-tokens: missing"),
    ([*BASIC, "--prompt-tokens", "p50=9,p40=3", "--output-tokens", "5"], "expected the median"),
    ([*BASIC, "--engine", "vlm"], "did you mean 'vllm'?"),
    ([*BASIC, "--precisions", "bf61"], "did you mean 'bf16'?"),
    (["--model", "nowhere/config.json", *BASIC[2:]], "nowhere/config.json"),
])
def test_a_bad_answer_is_one_line_and_nothing_is_written(arguments, words, penstock, folder):
    before = sorted(folder.rglob("*"))
    for command in (["init", "new.yaml"], ["plan"]):
        if command == ["plan"] and "no --model" in words:
            continue
        done = penstock(*command, *arguments)
        assert done.status == 2, done
        assert words in done.err
        assert done.err.count("\n") == 1
        assert done.out == ""
        assert sorted(folder.rglob("*")) == before


def test_init_writes_no_file_that_check_refuses(penstock, folder):
    done = penstock("init", "new.yaml", *BASIC[:-1], "1e-9")
    assert done.status == 2
    assert "the first request arrives after" in done.err
    assert not (folder / "new.yaml").exists()


def test_commands_that_write_a_file_print_json_too(penstock, folder):
    made = penstock("init", "new.yaml", *BASIC, "--json").json
    assert made["file"] == "new.yaml"
    assert "requests" in {entry["what"] for entry in made["assumed"]}
    drawn = penstock("trace", "generate", "fleet.yaml", "drawn.csv", "--json").json
    converted = penstock("trace", "convert", "drawn.csv", "drawn.parquet", "--json").json
    assert drawn["num_requests"] == converted["num_requests"] > 0
    assert converted["file"] == "drawn.parquet"


def test_plan_needs_no_file(penstock, folder):
    done = penstock("plan", *SMALL, "--ttft", "2", "--itl", "0.1")
    assert done.status == 0, done
    assert done.out.startswith("Not stated, so assumed:\n  engine: vllm 0.33.0")
    document = orjson.loads((folder / "runs/llama-3.2-1b-plan/plan.json").read_bytes())
    assert {entry["what"] for entry in document["assumed"]} == {"engine", "price", "weights"}
    assert penstock("check", "runs/llama-3.2-1b-plan/fleet.yaml").status == 0
    again = penstock("plan", *SMALL, "--ttft", "2", "--itl", "0.1", "--json", "--seed", "1",
                     "--what-if", "accelerators[0].count=1")
    assert again.json["seed"] == 1
    assert again.json["what_if"]
    assert again.json["assumed"] == document["assumed"]


def test_a_tpot_is_a_mean_itl(penstock, folder):
    done = penstock("plan", *SMALL, "--ttft", "2", "--tpot", "0.1", "--percentile", "90", "--json",
                    "--no-report")
    assert done.status == 0, done
    slo = done.json["demands"][0]["classes"][0]["slo"]
    assert slo == {"ttft_s": 2.0, "itl_s": 0.1, "e2e_s": None, "task_s": None, "itl": "mean",
                   "percentile": 90.0}
    assert penstock("init", "new.yaml", *BASIC, "--class", "mine:tpot=0.1").status == 0
    assert "slo: {itl_s: 0.1, itl: mean}" in (folder / "new.yaml").read_text()


def test_replicas_carry_traffic_that_goes_on(penstock):
    done = penstock("plan", "--model", "llama-3.2-1b", "--gpu", "h100", "--rate", "4000", "--e2e",
                    "600", "--prompt-tokens", "2000", "--output-tokens", "2", "--requests", "200",
                    "--set", "plan.num_seeds=1", "--no-report", "--json")
    assert done.status == 0
    assert 0.9 < done.json["demands"][0]["bound_share"] <= 1.0
    assert "only because the traffic ends" not in done.err


def test_a_plan_of_a_file_says_which_prices_are_ours(penstock):
    done = penstock("plan", "unsized.yaml", "--no-report")
    assert "price: a100-80gb $3.43 an hour each (catalog: AWS on-demand us-east-1, " in done.err
    assert "older than" not in done.err
    stated = penstock("plan", "unsized.yaml", "--no-report", "--set",
                      "accelerators[0].price_per_hour=3.4309")
    assert stated.err == "files in runs/small-plan\n"
    assert stated.out == done.out


def test_plan_takes_a_file_or_answers(penstock):
    done = penstock("plan", "unsized.yaml", "--rate", "5")
    assert done.err == ("error: --rate: has no meaning beside a fleet file; change the file's "
                        "value with --set\n")
    assert "--class: has no meaning beside --inferno" in penstock(
        "plan", "--inferno", ".", "--class", "chat").err


def test_a_model_and_an_accelerator_of_ones_own(penstock, folder):
    (folder / "my model").mkdir()
    (folder / "my model/config.json").write_text(json.dumps(CONFIG))
    (folder / "chips.yaml").write_text(CHIP)
    arguments = ("--model", "my model", "--gpu", "my-chip:2", "--catalog", "chips.yaml", "--rate",
                 "1", "--requests", "50", "--prompt-tokens", "200", "--output-tokens", "20")
    done = penstock("plan", *arguments, "--json")
    assert done.status == 0, done
    assert done.json["demands"][0]["name"] == "my-model"
    (folder / "deep").mkdir()
    assert penstock("init", "deep/fleet.yaml", *arguments).status == 0
    assert penstock("check", "deep/fleet.yaml").status == 0


def test_a_trace_file_is_found_from_the_fleet_files_folder(penstock, folder):
    (folder / "log.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,50,5\n1,60,6\n")
    (folder / "deep").mkdir()
    arguments = ("--model", "llama-3.2-1b", "--gpu", "l4:2", "--trace", "log.csv")
    assert penstock("init", "deep/fleet.yaml", *arguments).status == 0
    assert penstock("check", "deep/fleet.yaml").status == 0


def test_check_tells_all_as_json(penstock, folder):
    path = folder / "fleet.yaml"
    path.write_text(path.read_text().replace("a100-80gb", "a100-80g").replace("chat: 0.6",
                                                                              "chat: 0.5"))
    done = penstock("check", "fleet.yaml", "--json")
    assert done.status == 2
    assert done.err == "error: fleet.yaml: 2 problems\n"
    assert not done.json["ok"]
    assert [entry["fix"] for entry in done.json["problems"]] == [
        "name: a100-80gb", "mix: {chat: 0.5556, batch: 0.4444}"]
    assert penstock("check", "unsized.yaml", "--json").json == {
        "file": "unsized.yaml", "ok": True, "problems": []}


def test_check_counts_what_set_changes(penstock):
    done = penstock("check", "fleet.yaml", "--set", "run.seed=-1", "--set", "policies.rout=x")
    assert done.out.splitlines() == [
        "fleet.yaml: policies.rout: unknown key; did you mean 'route'?", "    fix: route: x",
        "fleet.yaml: run.seed: expected at least 0, found -1", "    fix: for example seed: 7"]


def test_the_dialogue_asks_again_until_an_answer_is_sound(monkeypatch, capsys):
    answers = iter(["lama-3.3-70b", "llama-3.3-70b", "h100:x", "h100:4 l40s", "-1", "5", "chatt",
                    "", "vlm", ""])
    asked = []

    def prompt(question: str, default: str | None = None, *, err: bool) -> str | None:
        assert err
        asked.append(question)
        return next(answers) or default

    monkeypatch.setattr(typer, "prompt", prompt)
    given = dict.fromkeys(("model", "gpu", "rate", "classes", "engine", "ttft", "itl", "tpot",
                           "e2e", "trace", "catalog"))
    ask(given)
    assert next(answers, None) is None
    assert (given["model"], given["gpu"], given["rate"]) == (
        "llama-3.3-70b", ["h100:4", "l40s"], 5.0)
    assert (given["classes"], given["engine"]) == (["chat"], "vllm")
    err = capsys.readouterr().err
    assert "did you mean 'llama-3.3-70b'?" in err
    assert "did you mean 'vllm'?" in err


def test_help_takes_its_words_from_the_fields(penstock):
    page = " ".join(penstock("init", "--help").out.replace("│", " ").split())
    assert "Time between output tokens, seconds." in page
    assert "{" not in page.replace("[:KEY=VALUE...]", "")


def test_a_run_of_a_stock_engine_says_what_ours_inside_would_do(penstock, folder):
    (folder / "stock.yaml").write_text(
        "accelerators: [{name: h100-80gb, count: 1}]\n"
        "models: [{name: llama-3.1-8b}]\n"
        "service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.1}}]\n"
        "traffic: [{name: t, lengths: azure-2023-conv, rate_per_s: 2, num_requests: 20}]\n"
        "replicas: [{count: 1}]\n"
        "engine: {name: vllm}\n")
    done = penstock("run", "stock.yaml", "--no-report")
    assert done.status == 0, done
    assert "with Penstock's scheduler inside vllm: attainment" in done.err
    quiet = penstock("run", "stock.yaml", "--no-report", "--json")
    assert "inside" not in quiet.err


def test_a_plan_of_a_stock_engine_says_what_ours_inside_needs(penstock, folder):
    done = penstock("plan", *SMALL, "--ttft", "2", "--itl", "0.1", "--json", "--no-report")
    found = done.json["penstock_inside"]
    assert found["engine"] == "penstock-in-vllm"
    assert found["saves_per_hour"] == pytest.approx(
        done.json["cost_per_hour"] - found["cost_per_hour"])
    ideal = penstock("plan", *SMALL, "--ttft", "2", "--itl", "0.1", "--json", "--no-report",
                     "--engine", "penstock")
    assert "penstock_inside" not in ideal.json


def test_a_basis_of_prices_is_chosen_by_option_or_file(penstock, folder, monkeypatch):
    monkeypatch.setattr("penstock.cli.moments.today", lambda: date(2026, 11, 23))
    options = [*SMALL, "--ttft", "2", "--itl", "0.1", "--no-report", "--json"]
    drafted = penstock("plan", *options, "--price-basis", "lambda")
    assert "unknown basis" in penstock("plan", *options, "--price-basis", "lamda").err
    filed = penstock("plan", "unsized.yaml", "--no-report", "--json", "--price-basis", "lambda")
    for done in (drafted, filed):
        assert [line for line in done.err.splitlines() if line.startswith("prices are")] \
            == done.json["warnings"] != []
    assert drafted.json["accelerators"][0]["price_basis"] == "AWS on-demand us-east-1"  # no other
    assert filed.json["accelerators"][0]["price_per_hour"] == 2.79
    assert filed.json["warnings"] == [
        "prices are older than 180 days: a100-80gb 2026-01; state price_per_hour, what you pay now"]
    mixed = penstock("plan", *options, "--gpu", "a6000")
    assert mixed.json["warnings"][0] == (
        "prices are of several bases: l4 AWS on-demand us-east-1, a6000 Lambda on-demand; choose "
        "price_basis, or state price_per_hour")
    own = ["--set", "accelerators[0].ownership={purchase: 16000, power_price_per_kwh: 0.2, pue: 1}"]
    listed, owned = (penstock("plan", "unsized.yaml", "--no-report", *own, *more) for more in (
        (), ("--price-basis", "ownership")))
    assert listed.out.splitlines()[0] == "1 replica for $3.43 an hour meets every objective in " \
                                         "simulation."
    assert "as owned $0.537" in listed.out
    assert owned.out.splitlines()[0].startswith("1 replica for $0.537 an hour")
    assert "older than" not in owned.err
