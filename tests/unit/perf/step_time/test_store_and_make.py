"""Models as documents, and the one function that makes them from a fleet file."""

from dataclasses import replace

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures
from penstock.perf.evidence import NO_LIMIT, Evidence
from penstock.perf.kernels.compose import KernelStepTime
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.roofline import RooflineStepTime, roofline_step_time
from penstock.perf.step_time.store import published_names, save_step_time
from penstock.perf.step_time.tabulated import TabulatedStepTime
from penstock.published.niyama.step_time import NiyamaStepTime
from penstock.registry.step_times import load_step_time, make_step_time, published_step_time
from support.kernel_tables import CHIP, write_tables
from support.kernel_tables import MODEL as TOY_MODEL

A100 = Accelerator("a100-80gb", "nvidia", 80 << 30, 2.039e12, {"bf16": 312e12}, 400.0, 300e9,
                   32e9, 1.0)
LLAMA_3_8B = ModelSpec("llama-3-8b", 32, 4096, 32, 8, 128, 14_336, 128_256, 8192)
EVIDENCE = Evidence("a test", 0.02, 0.06, StepFeatures(2048, 1e7, 64, 100_000))
FITTED = [LinearStepTime(0.01, 5e-5, 2e-9, 1e-5, 1e-7, EVIDENCE),
          KneeStepTime(0.01, 2.5e-5, 4.0, 4.8e-5, 1e-6, 2.3e-9, 7.4e-8, EVIDENCE),
          TabulatedStepTime((1.0, 64.0), (0.01, 0.012), 1e-6, 2e-9, 8e-8, EVIDENCE),
          LinearStepTime(0.01, 5e-5, 2e-9, 1e-5, 1e-7, Evidence("no limit", 0.1, 0.2, NO_LIMIT))]


def make(spec, **options):
    return make_step_time(spec, LLAMA_3_8B, A100, **options)


@pytest.mark.parametrize("ending", ["yaml", "json"])
@pytest.mark.parametrize("model", [*FITTED, *(published_step_time(n) for n in published_names())])
def test_saved_models_come_back_the_same(tmp_path, ending, model):
    path = tmp_path / f"model.{ending}"
    save_step_time(model, path)
    assert load_step_time(path) == model


def test_a_roofline_has_no_file_form(tmp_path):
    with pytest.raises(InputError, match="RooflineStepTime has no file form"):
        save_step_time(roofline_step_time(LLAMA_3_8B, A100), tmp_path / "x.yaml")


def test_published_names_are_found_and_near_ones_suggested():
    assert {"vidur-a100-llama-3-8b", "niyama-a100-llama-3-8b"} <= set(published_names())
    with pytest.raises(InputError, match="did you mean 'niyama-a100-llama-3-8b'"):
        published_step_time("niyama-a100-llama3-8b")


def document(**changes):
    base = {"kind": "linear", "coefficients": {
        "base_s": 0.01, "prefill_token_s": 5e-5, "work_s": 2e-9, "decode_seq_s": 1e-5,
        "context_s": 1e-7}}
    return base | changes


def test_a_document_without_evidence_is_marked_as_such(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(document()))
    assert "without a stated error" in load_step_time(path).predict(StepFeatures(1, 0, 0, 0)).source


@pytest.mark.parametrize(("content", "message"), [
    (document(kind="liner"), "kind 'liner' is unknown; did you mean 'linear'"),
    (document(evidense={}), "unknown key 'evidense'; did you mean 'evidence'"),
    ({"kind": "linear"}, "'coefficients' is missing"),
    ([1], "found list; expected a mapping"),
    (document(coefficients={"base_s": 1}), "'prefill_token_s' is missing"),
    (document(coefficients=document()["coefficients"] | {"work_s": -1.0}), "work_s: -1"),
    (document(coefficients=document()["coefficients"] | {"work_s": "x"}), "work_s: found 'x'"),
    (document(evidence={"source": "x", "mean_error": 0.1, "p95_error": 0.2, "largest": [1, 2]}),
     "largest has 2 numbers"),
    ({"kind": "tabulated", "coefficients": {
        "knot_tokens": [1, 1], "knot_s": [1, 2], "decode_seq_s": 0, "work_s": 0, "context_s": 0}},
     "knot_tokens falls or repeats"),
    ({"kind": "tabulated", "coefficients": {
        "knot_tokens": [1], "knot_s": [1], "decode_seq_s": 0, "work_s": 0, "context_s": 0}},
     "expected two or more"),
    ({"kind": "niyama", "coefficients": {"split_tokens": 512, "short": [1], "long": [1]}},
     "1 numbers; expected 6")])
def test_bad_documents_name_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        load_step_time(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_step_time(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match="is not YAML"):
        load_step_time(tmp_path / "bad.yaml")


@pytest.mark.parametrize(("spec", "kind"), [
    (None, RooflineStepTime), ("roofline", RooflineStepTime), ({}, RooflineStepTime),
    ("niyama", NiyamaStepTime), ("vidur-a100-llama-3-8b", KneeStepTime),
    ({"name": "vidur-a100-llama-3-8b-linear"}, LinearStepTime), (document(), LinearStepTime),
    ({"kind": "roofline", "factor": 1.2}, BiasedStepTime)])
def test_every_way_to_name_a_model(spec, kind):
    assert type(make(spec)) is kind


def test_saved_files_are_found_beside_the_fleet_file(tmp_path):
    save_step_time(FITTED[1], tmp_path / "mine.yaml")
    assert make("mine.yaml", base=tmp_path) == FITTED[1]
    assert make({"kind": "file", "path": "mine.yaml"}, base=tmp_path) == FITTED[1]


def test_roofline_takes_its_host_overhead():
    slow, fast = (make({"kind": "roofline", "host_overhead_s": s}) for s in (0.005, 0.0))
    assert slow.seconds(0, 0.0, 1, 1) - fast.seconds(0, 0.0, 1, 1) == pytest.approx(0.005)


@pytest.mark.parametrize(("spec", "message"), [
    ("roofine", "did you mean 'roofline'"),
    ({"kind": "roofline", "host_overhead": 1}, "did you mean 'host_overhead_s'"),
    ({"kind": "roofline", "host_overhead_s": -1}, "host_overhead_s is -1"),
    ({"kind": "linear"}, "linear needs coefficients"),
    ({"kind": "file"}, "needs path"), ("none.yaml", "cannot be read"),
    ({"kind": "niyama", "factor": 0}, "factor is 0")])
def test_bad_specs_name_what_is_wrong(spec, message):
    with pytest.raises(InputError, match=message):
        make(spec)


def test_kernel_tables_are_read_beside_the_fleet_file(tmp_path):
    write_tables(tmp_path / "tables")
    spec = {"kind": "kernels", "path": "tables", "host_overhead_s": 0.001}
    model = make_step_time(spec, TOY_MODEL, CHIP, base=tmp_path)
    assert isinstance(model, TabulatedStepTime)
    exact = make_step_time(spec | {"exact": True}, TOY_MODEL, CHIP, base=tmp_path)
    assert isinstance(exact, KernelStepTime)
    assert exact.host_s == 0.001
    step = (300, 45_000.0, 20, 20_000)
    assert model.seconds(*step) == pytest.approx(exact.seconds(*step), rel=0.05)
    named = make_step_time(spec | {"system": "toy", "backend": "vllm", "version": "1.0"},
                           TOY_MODEL, CHIP, base=tmp_path)
    assert named == model


def test_models_of_tables_are_made_once_for_each_question(tmp_path):
    spec = {"kind": "kernels", "path": str(write_tables(tmp_path))}
    one = make_step_time(spec, TOY_MODEL, CHIP)
    assert make_step_time(spec, TOY_MODEL, replace(CHIP)) is one
    slower = replace(CHIP, bandwidth_bytes_per_s=CHIP.bandwidth_bytes_per_s / 100)
    assert make_step_time(spec, TOY_MODEL, slower).seconds(0, 0.0, 1, 1) > one.seconds(0, 0.0, 1, 1)
    assert make_step_time(spec, TOY_MODEL, CHIP, parallelism=Parallelism(2)) != one


def test_a_table_that_changes_is_read_again(tmp_path):
    spec = {"kind": "kernels", "path": str(write_tables(tmp_path))}
    spec["exact"] = True
    before = make_step_time(spec, TOY_MODEL, CHIP)
    write_tables(tmp_path, change=lambda _, ms: 2.123 * ms)
    after = make_step_time(spec, TOY_MODEL, CHIP)
    assert after.matrices.at(64) == pytest.approx(2.123 * before.matrices.at(64))


@pytest.mark.parametrize(("changes", "message"), [
    ({"path": None}, "needs path, a folder of kernel tables"),
    ({"path": "none"}, "no such folder"),
    ({"sistem": "toy"}, "unknown key 'sistem' for kernels; did you mean 'system'"),
    ({"system": "tay"}, "did you mean 'toy'"),
    ({"host_overhead_s": "x"}, "host_overhead_s is 'x'"),
    ({"exact": "yes"}, "exact is 'yes'; expected true or false")])
def test_bad_kernel_specs_name_what_is_wrong(tmp_path, changes, message):
    write_tables(tmp_path / "tables")
    spec = {"kind": "kernels", "path": "tables"} | changes
    with pytest.raises(InputError, match=message):
        make_step_time({k: v for k, v in spec.items() if v is not None}, TOY_MODEL, CHIP,
                       base=tmp_path)


def test_a_system_is_found_by_the_accelerators_family(tmp_path):
    write_tables(tmp_path)
    write_tables(tmp_path, system="b7_sxm")
    assert isinstance(make_step_time({"kind": "kernels", "path": str(tmp_path)}, TOY_MODEL, CHIP),
                      TabulatedStepTime)
    with pytest.raises(InputError, match="no system fits a100-80gb; name it with system; expected "
                                         "one of: b7_sxm, toy"):
        make({"kind": "kernels", "path": str(tmp_path)})
    write_tables(tmp_path, system="toy_pcie")
    with pytest.raises(InputError, match=r"2 systems fit toy-40gb.*toy, toy_pcie"):
        make_step_time({"kind": "kernels", "path": str(tmp_path)}, TOY_MODEL, CHIP)
