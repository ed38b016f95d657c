"""Wrong words on the command line of ``penstock lab inferno``."""

import pytest

from penstock.cli.main import main


@pytest.mark.parametrize(("words", "told"), [
    (["control", "--unserved", "zerro"], "--unserved 'zerro'; did you mean 'zero'?"),
    (["control", "--backend", "llm-d"], "--backend 'llm-d'; did you mean 'llmd'?"),
    (["control", "--cycle-log", "none/log.jsonl"], "--cycle-log none/log.jsonl: cannot be written"),
    (["control", "--prometheus", "here"], "--prometheus"),
    (["control", "--host", "0.0.0.0"], "--open to admit anyone"),
    (["control", "--kubeconfig", "none.yaml"], "--kubeconfig: none.yaml: cannot be read"),
    (["load", "--kubeconfig", "none.yaml"], "--kubeconfig: none.yaml: cannot be read"),
    (["load", "--phases", "none.yaml"], "none.yaml: no such file; expected phases of a load"),
    (["load", "--skew", "2"], "--skew")])
def test_a_wrong_word_is_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "inferno", *words]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line
