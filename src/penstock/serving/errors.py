"""Errors of all HTTP services in one form."""

from collections.abc import Mapping
from typing import Any

from penstock.engines.http import HttpError
from penstock.serving.error_document import error_document


class ServiceError(HttpError):
    """An answer with a status other than 200. ``code`` is a word for programs, ``param`` the field
    with the fault, ``details`` further data for programs."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None,
                 headers: Mapping[str, str] | None = None,
                 details: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, " ".join(message.split()), headers)
        self.code = code
        self.param = param
        self.details = dict(details or {})

    def document(self) -> dict[str, Any]:
        """The answer's body."""
        return error_document(self.status, str(self), self.code, self.param, self.details)
