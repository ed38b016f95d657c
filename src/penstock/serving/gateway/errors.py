"""Errors as OpenAI's clients expect them, with what the gateway adds."""

from collections.abc import Mapping
from typing import Any

from penstock.engines.http import HttpError

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
          404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error",
          429: "rate_limit_error"}


class GatewayError(HttpError):
    """An answer other than 200. ``code`` is a word for programs, ``param`` the field to blame."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None,
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.param = param

    def document(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"message": str(self), "type": _TYPES.get(self.status, "server_error"),
                          "param": self.param, "code": self.code}}
