"""A PostgreSQL server of our own, which nobody reaches over a network."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AbsentError(Exception):
    """What is lacking here."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """The server's URL. Raises AbsentError where PostgreSQL cannot run."""
    try:
        import psycopg  # noqa: F401 (the driver is needed)
    except ImportError:
        raise AbsentError("psycopg is not installed") from None
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/lib/postgresql/15/bin")
                for name in ("initdb", "postgres")]
    if None in programs or os.name != "posix":
        raise AbsentError("PostgreSQL is not installed")
    who = _user()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has an end
    if who:
        shutil.chown(folder, who["user"])
    subprocess.run([programs[0], "-D", folder / "data", "-A", "trust", "-U", "postgres"],
                   check=True, capture_output=True, cwd=folder, **who)
    with subprocess.Popen([programs[1], "-D", folder / "data", "-k", folder,
                           "-c", "listen_addresses=", "-c", "fsync=off", "-c",
                           "log_min_messages=log"], cwd=folder,
                          stderr=subprocess.PIPE, text=True, **who) as server:
        try:
            assert server.stderr is not None
            while "ready to accept connections" not in (line := server.stderr.readline()):
                assert line, "PostgreSQL did not start"
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            server.terminate()
            server.communicate(timeout=30)
            shutil.rmtree(folder)


def _user() -> dict[str, str]:
    """The user to run as: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise AbsentError("there is no user postgres") from None
    return {"user": "postgres"}
