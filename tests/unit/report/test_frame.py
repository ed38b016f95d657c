import subprocess
import sys

import pytest

from penstock.core.errors import InputError
from penstock.report.html import frame
from penstock.report.html.frame import ABOVE, Page, framed, page_title, stamp, write_framed


def test_text_is_escaped_and_the_body_is_not():
    before, _, after = framed(Page("<t>", "<v>", "<s>", "<p>body</p>", "<f>", {"a": "</script>"}))
    page = (before + after).decode()
    for text in ("&lt;t&gt;", "&lt;v&gt;", "&lt;s&gt;", "&lt;f&gt;", "<p>body</p>",
                 "\\u003c/script>"):
        assert text in page


def test_the_script_stands_between_the_halves():
    before, script, after = framed(Page("t", "v", "s", "", "", {}))
    assert before.endswith(b"<script>\n")
    assert after.startswith(b"\n</script>")
    assert script == frame.plotly_script()


def test_pages_share_a_plot_library(tmp_path):
    page = Page("t", "v", "s", "<p>body</p>", "", {})
    for name in ("one", "two"):
        write_framed(tmp_path / "runs" / name / "report.html", page, ABOVE)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == \
        ["one", "plotly.min.js", "two"]
    assert (tmp_path / "runs/plotly.min.js").read_bytes() == frame.plotly_script()
    text = (tmp_path / "runs/one/report.html").read_text()
    assert '<script src="../plotly.min.js"></script>' in text
    assert len(text) < 100_000


def test_a_library_of_another_release_is_replaced(tmp_path):
    (tmp_path / "plotly.min.js").write_text("old")
    write_framed(tmp_path / "page.html", Page("t", "v", "s", "", "", {}))
    assert (tmp_path / "plotly.min.js").read_bytes() == frame.plotly_script()


def test_a_self_contained_page_refers_to_no_file(tmp_path):
    write_framed(tmp_path / "page.html", Page("t", "v", "s", "", "", {}), None)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    text = (tmp_path / "page.html").read_text()
    assert "script-src 'unsafe-inline';" in text
    assert "<script src" not in text


def test_the_stamp_says_what_is_known():
    assert stamp({"name": "a", "seed": 0, "version": None}) == "a · seed 0"
    assert page_title({}, "Run") == "Run - Penstock"


def test_plotlys_python_side_is_not_imported():
    code = ("import sys; from penstock.report.html import frame; frame.plotly_script(); "
            "sys.exit('plotly' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_plotly_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(frame, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"plotly\.js not found"):
        frame.plotly_script()
