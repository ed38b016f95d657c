"""The command that checks kernel tables: on toy tables, and on the shared ones."""

import gzip
from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.figures import Options, Reproduction
from penstock.published.kernels import expected
from penstock.published.reproduce import reproduce
from support.kernel_tables import write_tables


def figures_of(found: Reproduction, start: str) -> dict[str, float]:
    return {figure.name: figure.ours for figure in found.figures if figure.name.startswith(start)}


def test_systems_are_found_by_their_files(tmp_path: Path) -> None:
    write_tables(tmp_path / "aiconfigurator", system="q1_sxm")
    write_tables(tmp_path / "aiconfigurator", system="q2")
    said: list[str] = []
    found = reproduce("kernels", tmp_path, Options(on_progress=said.append))
    assert {row["system"] for row in found.rows["interpolation.csv"]} == {"q1_sxm", "q2"}
    assert "tables of q2" in said
    # No model of the list has heads of 64 values.
    assert sum("llama-3-70b over 8 not composed" in remark for remark in found.remarks) == 2
    assert any("nothing is compared with Vidur" in remark for remark in found.remarks)
    assert figures_of(found, "q1_sxm gemm bf16")["q1_sxm gemm bf16, mean error"] < 0.05
    assert found.agrees
    assert {record["part"] for record in found.records} == {"interpolation"}


def test_rough_tables_miss_the_expectation(tmp_path: Path) -> None:
    odd = iter(range(10**9))
    write_tables(tmp_path, system="q1", change=lambda _, ms: ms * (1.0 + next(odd) % 5))
    found = reproduce("kernels", tmp_path, Options())
    assert not found.agrees


def test_folders_without_tables_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no kernel table"):
        reproduce("kernels", tmp_path, Options())
    write_tables(tmp_path)
    (tmp_path / "toy_vllm1.0_gemm.csv.gz").unlink()
    with pytest.raises(InputError, match="holds no GEMM table"):
        reproduce("kernels", tmp_path, Options())


def test_constants_are_needed(tmp_path: Path) -> None:
    (write_tables(tmp_path) / "toy.system.yaml").unlink()
    with pytest.raises(InputError, match="toy"):
        reproduce("kernels", tmp_path, Options())


@pytest.mark.parametrize(("text", "message"), [
    ("hardware,model,tp,num_tokens\na100,llama-3-8b,1,1\n", "no column 'dense_ms'"),
    ("hardware,model,tp,num_tokens,dense_ms\na100,llama-3-8b,1,one,2\n",
     "line 2: could not convert.*expected numbers in num_tokens, dense_ms")])
def test_broken_profiles_say_where(tmp_path: Path, text: str, message: str) -> None:
    write_tables(tmp_path / "aiconfigurator", system="a100_sxm")
    (tmp_path / "vidur").mkdir()
    (tmp_path / "vidur/dense_time_points.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match=message):
        reproduce("kernels", tmp_path, Options())


def test_the_shared_tables_and_profiles_agree(shared_data: Path, tmp_path: Path) -> None:
    """Of two of the systems; `lab reproduce kernels` takes all."""
    (tmp_path / "vidur").symlink_to(shared_data / "vidur")
    (tmp_path / "aiconfigurator").mkdir()
    systems = {"a100_sxm", "l40s"}
    for path in (shared_data / "aiconfigurator").iterdir():
        if path.name.startswith((*systems,)):
            (tmp_path / "aiconfigurator" / path.name).symlink_to(path)
    found = reproduce("kernels", tmp_path, Options())
    assert found.agrees, [figure for figure in found.figures if not figure.agrees]
    assert {row["system"] for row in found.rows["steps.csv"]} == systems
    for system in systems:
        checked = figures_of(found, f"{system} ")
        assert f"{system} steps: compact form, mean error" in checked
    dense = figures_of(found, "a100_sxm dense layers against Vidur")
    assert 0.0 < dense["a100_sxm dense layers against Vidur, mean error"] < 0.2
    # Composed and table agree on what Vidur took from these tables: the whole batches.
    batches = figures_of(found, "a100_sxm whole batches")
    assert batches["a100_sxm whole batches against Vidur, mean error"] < 0.03
    assert {row["gemm"] for row in found.rows["vidur_gemm.csv"]} == {
        "attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"}


def test_another_systems_files_are_taken_as_they_come(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "aiconfigurator").glob("a100_sxm*"):
        (tmp_path / path.name.replace("a100_sxm", "x900_sxm")).symlink_to(path)
    found = reproduce("kernels", tmp_path, Options())
    assert found.agrees
    assert {row["model"] for row in found.rows["steps.csv"]} == {"llama-3-8b", "llama-3-70b"}
    assert figures_of(found, "x900_sxm steps")["x900_sxm steps: compact form, mean error"] < 0.02


def test_expectations_are_round_numbers_within_reason() -> None:
    for value in (*expected.TABLES.values(), *expected.DENSE.values(), expected.THINNED_STEPS,
                  expected.COMPACT_STEPS, expected.BATCHES):
        assert value == round(value, 2)
        assert 0.0 < value <= 0.15
