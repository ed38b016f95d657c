import pytest

from penstock.cli.files import write_whole
from penstock.core.errors import InputError


def test_the_file_gets_its_name_when_complete(tmp_path):
    seen = []

    def write(path):
        path.write_text("half")
        seen.extend(tmp_path.rglob("*.csv"))
        path.write_text("whole")

    write_whole(tmp_path / "new" / "t.csv", write, (".csv",))
    assert [path.name for path in seen] == [".partial-t.csv"]
    assert (tmp_path / "new" / "t.csv").read_text() == "whole"
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("x"),
                                   InputError("bad")])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(error, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def fail(partial):
        partial.write_text("half")
        raise error

    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_messages_name_the_file_asked_for(tmp_path):
    def fail(partial):
        raise InputError(f"{partial}: does not fit")

    with pytest.raises(InputError) as caught:
        write_whole(tmp_path / "t.csv", fail)
    assert str(caught.value) == f"{tmp_path / 't.csv'}: does not fit"


def test_folders_and_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        write_whole(tmp_path, lambda path: None)
    with pytest.raises(InputError, match=r"ends in \.yaml or \.json"):
        write_whole(tmp_path / "t.csv", lambda path: None, (".yaml", ".json"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "t.csv", lambda path: None)
