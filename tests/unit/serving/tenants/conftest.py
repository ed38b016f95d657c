"""Databases for the ledger: SQLite always, PostgreSQL where it is installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server of our own, which nobody reaches over a network."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/lib/postgresql/15/bin")
                for name in ("initdb", "postgres")]
    if None in programs or os.name != "posix":
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has an end
    who = {}
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        import pwd
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres")
        shutil.chown(folder, "postgres")
        who = {"user": "postgres"}
    subprocess.run([programs[0], "-D", folder / "data", "-A", "trust", "-U", "postgres"],
                   check=True, capture_output=True, cwd=folder, **who)
    with subprocess.Popen([programs[1], "-D", folder / "data", "-k", folder,
                           "-c", "listen_addresses=", "-c", "fsync=off", "-c",
                           "log_min_messages=log"], cwd=folder,
                          stderr=subprocess.PIPE, text=True, **who) as server:
        try:
            while "ready to accept connections" not in (line := server.stderr.readline()):
                assert line, "PostgreSQL did not start"
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            server.terminate()
            server.communicate(timeout=30)
            shutil.rmtree(folder)
