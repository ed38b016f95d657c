"""``penstock profile`` as a user calls it, on an engine that is simulated."""

import shutil
import signal
import time

import orjson
import pyarrow.parquet as pq
import pytest

from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.summary import read_runs
from support.penstock_process import process

SIM = ("--engine", "sim", "--with", "accelerator=a100-80gb")
MAVERIQ = ("Model,TP,PP,PP_Map,DTYPE,INT8_KV_Cache,Output_Lenght,Batch_Size,Latency,"
           "Memory-Pre-Run,Memory-After-Run\nllama,2,2,8 8,int4,True,100,1,0.5,10.5,13.75\n"
           "llama,2,2,8 8,int4,True,100,2,fast,10.5,13.75\n")


def test_a_model_is_profiled_and_its_steps_are_fitted(penstock, folder):
    done = penstock("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--json")
    assert done.status == 0, done.err
    assert (done.json["status"], done.json["kind"], done.json["simulated"]) == (
        "complete", "model", True)
    assert len(done.json["points"]) == 12
    one = next(point for point in done.json["points"]
               if (point["batch"], point["prompt_tokens"]) == (4, 512))
    assert one["low_s"] <= one["seconds"] <= one["high_s"]
    assert one["first_token_s"] + 15 * one["decode_step_s"] == pytest.approx(one["seconds"],
                                                                            rel=0.02)
    assert pq.read_table(folder / "p" / "points.parquet").num_rows >= 12 * 7
    fitted = penstock("profile", "fit", "step-time", "p", "--out", "fitted.yaml", "--json")
    assert fitted.status == 0, fitted.err
    assert (folder / "fitted.yaml").exists()


def test_the_table_says_that_it_is_simulated(penstock, folder):
    done = penstock("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--batch", "1,2",
                    "--prompt-tokens", "64")
    assert "simulated: no engine was measured" in done.out
    assert "profile: p (complete)" in done.out
    assert read_profile(folder / "p").is_simulated


def test_the_same_command_measures_nothing_again(penstock, folder):
    command = ("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--json")
    first = penstock(*command)
    rows = read_profile(folder / "p").measurements
    assert penstock(*command).json["points"] == first.json["points"]
    assert read_profile(folder / "p").measurements == rows
    more = penstock(*command, "--batch", "1,4,16,32")
    assert len(more.json["points"]) == 16
    assert read_profile(folder / "p").measurements[:len(rows)] == rows


def test_equal_seeds_give_equal_rows(penstock, folder):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        penstock("profile", "model", "llama-3-8b", *SIM, "--out", name, "--seed", seed)
    a, b, c = ([one.seconds for one in read_profile(folder / name).measurements]
               for name in "abc")
    assert a == b != c


def test_a_spent_budget_is_said_and_the_next_session_goes_on(penstock, folder):
    command = ("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--json")
    first = penstock(*command, "--budget-s", 5)
    assert first.status == 0
    assert first.json["status"] == "out_of_time"
    assert "goes on with the points that are left" in first.err
    second = penstock(*command)
    assert second.json["status"] == "complete"
    assert len(second.json["points"]) == 12 > len(first.json["points"])


def test_batches_up_to_out_of_memory(penstock, folder):
    done = penstock("profile", "batch", "llama-3-8b", *SIM, "--out", "p", "--largest", 4096,
                    "--prompt-tokens", 1024, "--json")
    design = done.json["design"]
    assert design["largest_that_fits"] < design["smallest_that_does_not"] <= \
        1.06 * design["largest_that_fits"]
    lost = [point for point in done.json["points"] if point["outcome"] == "out_of_memory"]
    assert lost
    assert all("GiB" in point["reason"] for point in lost)
    assert max(point["batch"] for point in done.json["points"] if point["outcome"] == "ok") == \
        design["largest_that_fits"]
    shown = penstock("profile", "batch", "llama-3-8b", *SIM, "--out", "p", "--largest", 4096,
                     "--prompt-tokens", 1024)
    assert f"largest batch that fits: {design['largest_that_fits']}" in shown.out
    assert "out of memory" in shown.out


def test_batches_of_ones_own_sizes(penstock):
    done = penstock("profile", "batch", "llama-3-8b", *SIM, "--out", "p", "--sizes", "3,1,7",
                    "--json")
    assert [point["batch"] for point in done.json["points"]] == [1, 3, 7]


def test_loads(penstock):
    done = penstock("profile", "load", "llama-3-8b", *SIM, "--out", "p", "--loops", 3,
                    "--precision", "bf16,int8", "--json")
    found = {(point["kind"], point["precision"]): point for point in done.json["points"]}
    assert set(found) == {(kind, precision) for kind in ("load", "unload")
                          for precision in ("bf16", "int8")}
    assert found["load", "bf16"]["num_repeats"] == 3
    assert found["load", "int8"]["seconds"] < found["load", "bf16"]["seconds"]
    assert found["load", "bf16"]["cache"] == "in_memory"
    assert "ready after" in penstock("profile", "load", "llama-3-8b", *SIM, "--out", "q").out


def test_fingerprints_are_runs_for_estimators(penstock, folder):
    done = penstock("profile", "fingerprint", "llama-3-8b", *SIM, "--with", "accelerators=2",
                    "--design", "maveriq", "--depths", "32", "--out", "p", "--json")
    assert done.status == 0, done.err
    runs = read_runs(folder / "p")
    assert len(runs) == 24 + 4
    line = {run.num_layers: run.latency_s for run in runs
            if (run.tensor, run.pipeline, run.batch, run.output_tokens) == (1, 1, 1, 20)}
    # A roofline's layers all take the same time, so two of them tell of all.
    assert line[1] + 31 * (line[2] - line[1]) == pytest.approx(line[32], rel=0.1)


def test_what_does_not_fit_a_fingerprint_is_said(penstock):
    done = penstock("profile", "fingerprint", "llama-3-8b", *SIM, "--with", "accelerators=1",
                    "--design", "maveriq", "--out", "p")
    assert done.status == 0
    assert "not measured: tp2 pp1 bf16 kv bf16: takes 2 accelerators" in done.err


def test_a_killed_run_leaves_a_profile_that_is_gone_on_with(repository, folder, penstock):
    command = ("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--tolerance", "0.0001",
               "--min-repeats", "200", "--max-repeats", "200")
    with process(repository, folder, *command) as running:
        deadline_s = time.monotonic() + 60
        while not (folder / "p" / "points.parquet").exists() or \
                not read_profile(folder / "p").measurements:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=60)
    left = read_profile(folder / "p")
    assert left.document["status"] in ("running", "complete")
    # A partial file of the moment of its death is nobody's.
    done = penstock(*command, "--json")
    assert done.json["status"] == "complete"
    assert len(done.json["points"]) == 12
    assert {point["num_repeats"] for point in done.json["points"]} == {200}
    assert read_profile(folder / "p").measurements[:len(left.measurements)] == left.measurements


def test_import_and_a_broken_line(penstock, folder):
    path = folder / "profiles.csv"
    path.write_text(MAVERIQ)
    broken = penstock("profile", "import", path, "--from", "maveriq", "--out", "p")
    assert broken.status == 2
    assert broken.err == f"error: {path}:3: Latency: found 'fast'; expected a number\n"
    assert not (folder / "p").exists()
    path.write_text(MAVERIQ.replace("fast", "0.75"))
    done = penstock("profile", "import", path, "--from", "maveriq", "--out", "p")
    assert done.status == 0
    assert "profile: p (2 rows of 2 points)" in done.out
    assert "mean of three runs" in done.err
    assert [run.latency_s for run in read_runs(folder / "p")] == [0.5, 0.75]
    again = penstock("profile", "import", path, "--from", "maveriq", "--out", "p")
    assert (again.status, "is there already" in again.err) == (2, True)


def test_import_of_guidellm(penstock, folder, repository):
    shutil.copy(repository / "tests" / "golden" / "data" / "guidellm-0.7.2.json", folder / "g.json")
    done = penstock("profile", "import", "g.json", "--from", "guidellm", "--out", "p", "--json")
    assert done.status == 0, done.err
    rows = read_profile(folder / "p").measurements
    assert done.json["rows"] == len(rows) > 0
    assert {one.kind for one in rows} == {"request"}
    finished = [one for one in rows if one.outcome == "ok"]
    assert finished
    assert all(one.first_token_s <= one.seconds for one in finished)
    broken = penstock("profile", "import", "fleet.yaml", "--from", "guidellm", "--out", "q")
    assert broken.status == 2
    assert broken.err.startswith("error: fleet.yaml: not JSON")


@pytest.mark.parametrize(("arguments", "said"), [
    (("model", "lama-3-8b", *SIM), "did you mean 'llama-3-8b'"),
    (("model", "llama-3-8b", "--engine", "vlm"), "--engine 'vlm' is unknown; did you mean 'vllm'"),
    (("model", "llama-3-8b", "--engine", "sim"), "expected --with accelerator=NAME"),
    (("model", "llama-3-8b", "--engine", "sim", "--with", "acelerator=x"),
     "did you mean 'accelerator'"),
    (("model", "llama-3-8b", *SIM, "--with", "threads"), "expected KEY=VALUE"),
    (("model", "llama-3-8b", *SIM, "--with", "threads=two"), "expected a whole number above 0"),
    (("model", "llama-3-8b", *SIM, "--with", "eager=yes"), "expected true or false"),
    (("model", "llama-3-8b", *SIM, "--with", "accelerator=a1000"), "unknown accelerator"),
    (("model", "llama-3-8b", *SIM, "--batch", "1,x"), "--batch '1,x': expected whole numbers"),
    (("model", "llama-3-8b", *SIM, "--prompt-tokens", "0"), "--prompt-tokens '0'"),
    (("model", "llama-3-8b", *SIM, "--prompt-tokens", "9000"), "exceed the model's context"),
    (("model", "llama-3-8b", *SIM, "--layers", "33"), "33 layers; it has 32"),
    (("model", "llama-3-8b", *SIM, "--precision", "int5"), "'int5' is unknown"),
    (("model", "llama-3-8b", *SIM, "--precision", "bf16,fp8"),
     "--precision bf16,fp8: expected one"),
    (("model", "llama-3-8b", *SIM, "--clock", "sun"), "expected wall or cpu"),
    (("model", "llama-3-8b", *SIM, "--clock", "cpu"), "nothing of accelerators"),
    (("model", "llama-3-8b", *SIM, "--min-repeats", "31"), "more than --max-repeats 30"),
    (("model", "llama-3-8b", *SIM, "--pipeline", "40"), "fewer than stages"),
    (("fingerprint", "llama-3-8b", *SIM, "--design", "mavrik"), "did you mean 'maveriq'"),
    (("import", "fleet.yaml", "--from", "vidr"), "did you mean 'vidur'"),
    (("import", "absent.csv", "--from", "vidur"), "absent.csv: no such file"),
])
def test_bad_input_is_one_line_and_leaves_nothing(penstock, folder, arguments, said):
    done = penstock("profile", *arguments, "--out", "p")
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (folder / "p").exists()


def test_another_subject_in_the_folder_is_refused(penstock, folder):
    command = ("profile", "model", "llama-3-8b", *SIM, "--batch", "1", "--prompt-tokens", "8")
    penstock(*command, "--out", "p")
    before = (folder / "p" / "profile.json").read_bytes()
    for changed in (("profile", "model", "llama-2-7b", *command[3:]), (*command, "--seed", "1")):
        done = penstock(*changed, "--out", "p")
        assert done.status == 2
        assert "another subject was measured there" in done.err
    assert (folder / "p" / "profile.json").read_bytes() == before
    assert penstock("profile", "batch", *command[2:5], *SIM, "--out", "p").status == 2
    other = penstock(*command, "--out", ".")
    assert "holds something else than a profile" in other.err


def test_the_document_says_what_was_measured(penstock, folder):
    penstock("profile", "model", "llama-3-8b", *SIM, "--out", "p", "--batch", "1",
             "--prompt-tokens", "8", "--share", "0.5")
    document = orjson.loads((folder / "p" / "profile.json").read_bytes())
    assert document["subject"]["engine"] == "sim"
    assert document["subject"]["device"] == "a100-80gb"
    assert document["subject"]["clock"] == "simulated"
    assert document["design"]["effort"]["share"] == 0.5
    assert document["sessions"][0]["status"] == "complete"
    assert document["under_way"] is None


MIXTURE = {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
           "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16,
           "num_key_value_heads": 16, "intermediate_size": 4096, "moe_intermediate_size": 512,
           "n_routed_experts": 16, "num_experts_per_tok": 4, "n_shared_experts": 1,
           "first_k_dense_replace": 3, "kv_lora_rank": 128, "q_lora_rank": 256,
           "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64, "vocab_size": 32_000,
           "max_position_embeddings": 4096}


def test_a_mixture_with_dense_layers_first(penstock, folder):
    """Fingerprints reach beyond them; a cut that does not is told of, and the profile keeps it."""
    (folder / "config.json").write_bytes(orjson.dumps(MIXTURE))
    sim = ("--engine", "sim", "--with", "accelerator=h100-sxm-80gb", "--precision", "bf16")
    made = penstock("profile", "fingerprint", "config.json", *sim, "--design", "maveriq", "--out",
                    "cuts")
    assert made.status == 0, made.err
    profile = read_profile(folder / "cuts")
    assert profile.document["design"]["leading_dense_layers"] == 3
    assert {one.configuration.num_layers for one in profile.measurements} == {4, 5, 6}
    said = "are dense: none of its layers with experts is measured"
    done = penstock("profile", "model", "config.json", *sim, "--layers", 2, "--out", "dense",
                    "--batch", "1", "--prompt-tokens", "32")
    assert done.status == 0, done.err
    told = " ".join(done.err.split())
    assert "warning: the 2 layers of this cut of" in told
    assert said in told
    assert said in read_profile(folder / "dense").document["warnings"][0]
    whole = penstock("profile", "model", "config.json", *sim, "--layers", 4, "--out", "four",
                     "--batch", "1", "--prompt-tokens", "32")
    assert "warning" not in whole.err
    assert "warnings" not in read_profile(folder / "four").document
