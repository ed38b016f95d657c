"""The body of every error of HTTP services. It needs no HTTP library."""

from collections.abc import Mapping
from typing import Any

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
          404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error",
          409: "conflict_error", 422: "invalid_request_error",
          415: "invalid_request_error", 429: "rate_limit_error"}


def error_document(status: int, message: str, code: str | None = None, param: str | None = None,
                   details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an error in the form of all services: OpenAI's form with details. The message also
    stands at the top level, where clients of Inferno's programs look for it."""
    return {"error": {"message": message, "type": _TYPES.get(status, "server_error"),
                      "param": param, "code": code, "details": dict(details or {})},
            "message": message}
