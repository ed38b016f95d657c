import subprocess
import sys

import pytest

from penstock.core.errors import InputError
from penstock.report.html import frame
from penstock.report.html.frame import Page, framed, page_title, stamp


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
