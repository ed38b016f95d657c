"""Paths of the files that a fleet file names."""

from dataclasses import dataclass
from glob import escape as glob_escape
from pathlib import Path

from penstock.core.errors import InputError, nearest
from penstock.fleet.marked_yaml import MAX_BYTES
from penstock.fleet.marked_yaml import Path as FieldPath
from penstock.fleet.problems import PlacedError, quote


@dataclass(frozen=True, slots=True)
class FileFinder:
    """Looks for relative paths in ``base``, then in ``data_dir``.

    Without a ``base`` no file may be named: a file from another machine must not read this disk.
    """

    base: Path | None
    data_dir: Path | None = None

    def find(self, name: str, field: FieldPath) -> str:
        """Return the absolute path of a file or folder that the document names in ``field``."""
        folders = self._folders(name, field)
        for folder in folders:
            path = folder / Path(name).expanduser()
            try:
                if path.exists():
                    return str(path.resolve())
            except (OSError, RuntimeError):
                break
        places = " or ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        where = "" if Path(name).is_absolute() else f" in {places}"
        raise PlacedError(field, f"no file {quote(name)}{where}")

    def folder_of(self, name: str, ending: str, field: FieldPath) -> str:
        """Return the absolute path of the folder that has a file ``name`` + ``ending``, a
        pattern."""
        folders = self._folders(name, field)
        for folder in folders:
            if any(folder.glob(glob_escape(name) + ending)):
                return str(folder.resolve())
        places = " or ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        known = sorted({path.name.split(ending.partition("*")[0])[0]
                        for folder in folders for path in folder.glob(f"*{ending}")})
        raise PlacedError(field, f"no files of {quote(name)} ({name}{ending}) in {places}"
                                 f"{nearest(name, known)}")

    def _folders(self, name: str, field: FieldPath) -> list[Path]:
        if self.base is None:
            raise PlacedError(field, f"names a file, {quote(name)}, and no files are read here; "
                              "expected a built-in name, or the values themselves")
        return [self.base] if self.data_dir is None else [self.base, self.data_dir]


def read_text(path: Path, what: str = "a fleet file") -> str:
    """Read the text of a fleet file, or of ``what``. Raises InputError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected {what} (YAML)") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {what} (YAML)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{quote(str(path))}: cannot be read ({error})") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} bytes; is it {what}?")
    return decoded(content, str(path))


def decoded(content: bytes, source: str) -> str:
    """Decode UTF-8 text without its byte-order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{source}:{line}: not UTF-8 text (byte {content[error.start]:#04x})"
                         ) from None
