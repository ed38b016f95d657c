"""Databases for the ledger: SQLite always, PostgreSQL where it is installed."""

import pytest

from support.postgres_server import AbsentError, postgres_server


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server of our own."""
    try:
        with postgres_server() as url:
            yield url
    except AbsentError as reason:
        pytest.skip(str(reason))
