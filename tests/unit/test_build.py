"""The cache of native builds: used while nothing changed, and never in the way."""

import ast
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("hatchling", reason="the build backend is not installed")


def hook_module(path: Path) -> ModuleType:
    """The build hook of a checkout."""
    spec = importlib.util.spec_from_file_location("hatch_build", path)
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook


@pytest.fixture
def build(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The hook of a small checkout, whose compiler only counts how often it runs."""
    root = tmp_path / "checkout"
    (root / "src" / "penstock").mkdir(parents=True)
    (root / "src" / "penstock" / "a.py").write_text("A = 1\n")
    shutil.copy(repository / "hatch_build.py", root)
    hook = hook_module(root / "hatch_build.py")
    runs = []

    def compiled(root: Path, folder: Path) -> Path:
        runs.append(folder)
        (folder / "lib" / "penstock").mkdir(parents=True)
        (folder / "lib" / "penstock" / "a.so").write_text((root / "src/penstock/a.py").read_text())
        return folder / "lib"

    monkeypatch.setattr(hook, "_compile", compiled)
    monkeypatch.setattr(hook, "version_of", lambda name: "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PENSTOCK_BUILD_CACHE", raising=False)
    numbers = iter(range(100))

    def built(text: str | None = None) -> tuple[str, int]:
        """What a build gives, and how often the compiler has run."""
        if text is not None:
            (root / "src" / "penstock" / "a.py").write_text(text)
        library = hook._built(root, tmp_path / f"build-{next(numbers)}", ["true"])
        return (library / "penstock" / "a.so").read_text(), len(runs)

    return built


def test_the_same_sources_are_compiled_once(build) -> None:
    assert build() == ("A = 1\n", 1)
    assert build() == ("A = 1\n", 1)
    assert build("A = 2\n") == ("A = 2\n", 2)
    assert build("A = 1\n") == ("A = 1\n", 2)


def test_the_cache_can_be_turned_off(build, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PENSTOCK_BUILD_CACHE", "0")
    assert [build()[1], build()[1]] == [1, 2]
    assert not (tmp_path / "cache").exists()


def test_the_oldest_builds_are_dropped(build, tmp_path) -> None:
    for number in range(7):
        build(f"A = {number}\n")
    assert len(list((tmp_path / "cache/penstock/native").iterdir())) == 4


def test_a_cache_that_cannot_be_written_is_done_without(build, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert build() == ("A = 1\n", 1)
    assert build() == ("A = 1\n", 2)


def test_a_wheel_that_cannot_be_compiled_is_pure_unless_native_code_is_demanded(
        repository: Path, monkeypatch) -> None:
    hook = hook_module(repository / "hatch_build.py")
    said = []

    class Hook(hook.CustomBuildHook):
        app = SimpleNamespace(display_warning=said.append)
        target_name = "wheel"

        def __init__(self) -> None:
            """Need none of the builder's arguments."""

    monkeypatch.setattr(hook, "_compiler", lambda: None)
    for name in ("PENSTOCK_PURE", "PENSTOCK_NATIVE"):
        monkeypatch.delenv(name, raising=False)
    data: dict[str, object] = {}
    Hook().initialize("standard", data)
    assert (data, said) == ({}, ["no C compiler: penstock is installed as pure Python"])
    monkeypatch.setenv("PENSTOCK_NATIVE", "1")
    with pytest.raises(RuntimeError, match="no C compiler, and PENSTOCK_NATIVE asks"):
        Hook().initialize("standard", data)


@pytest.mark.parametrize(("found", "demanded", "pure", "needed"), [
    (None, "1", None, ["ziglang>=0.15"]),
    (None, None, None, []),
    (None, "1", "1", []),
    (["cc"], "1", None, []),
])
def test_pip_brings_a_compiler_where_native_code_is_demanded_and_none_is_installed(
        repository: Path, monkeypatch, found, demanded, pure, needed) -> None:
    hook = hook_module(repository / "hatch_build.py")
    monkeypatch.setattr(hook, "_compiler", lambda: found)
    for name, value in (("PENSTOCK_NATIVE", demanded), ("PENSTOCK_PURE", pure)):
        monkeypatch.setenv(name, value or "")
    builder = hook.CustomBuildHook(str(repository), {}, None, None, str(repository), "wheel")
    assert builder.dependencies() == needed


def test_compiled_dataclasses_have_no_class_variables(repository: Path) -> None:
    """mypyc drops what ``ClassVar`` says, and the dataclass takes the variable for a field."""
    hook = hook_module(repository / "hatch_build.py")
    for name in hook.COMPILED:
        tree = ast.parse((repository / "src/penstock" / name).read_text())
        wrong = [f"{name}:{line.lineno}" for node in ast.walk(tree)
                 if isinstance(node, ast.ClassDef)
                 and any("dataclass" in ast.unparse(one) for one in node.decorator_list)
                 for line in node.body
                 if isinstance(line, ast.AnnAssign) and "ClassVar" in ast.unparse(line.annotation)]
        assert not wrong
