import subprocess
import sys

import pytest

from penstock.report.tables import classes_table, run_tables


def printed(summary, width=160):
    from rich.console import Console

    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(*run_tables(summary))
    return capture.get()


def test_the_terminal_says_what_the_page_says(run):
    text = printed(run.summary)
    for phrase in ("Sized to 2 replicas of llama-3-8b", "attainment", "Service classes", "Latency",
                   "Cost", "Sizing search", "2 chosen", "cannot start in time", "✗ misses"):
        assert phrase in text


def test_values_above_a_binding_target_are_marked(run):
    text = printed(run.summary)
    assert "▲" in text  # the strict class has a 20 ms pace that no request keeps


@pytest.mark.parametrize("key", ["sizing", "refusals"])
def test_optional_tables_are_left_out(run, key):
    shorter = {name: value for name, value in run.summary.items() if name != key}
    assert len(run_tables(shorter)) == len(run_tables(run.summary)) - 1


def test_brackets_in_names_are_no_markup(run):
    classes = {"[red]odd": run.summary["classes"]["batch"]}
    assert "[red]odd" in printed(run.summary | {"classes": classes})


def test_one_row_per_class_and_one_overall(run):
    assert classes_table(run.summary).row_count == len(run.summary["classes"]) + 1


def test_an_empty_run_has_tables_too(empty_run):
    assert "no requests were received" in printed(empty_run.summary)


def test_rich_is_not_imported_until_a_table_is_made():
    code = "import sys; import penstock.report.tables; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
