"""The body of every error of HTTP services. No HTTP library is needed to make one."""

from collections.abc import Mapping
from typing import Any

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
          404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error",
          429: "rate_limit_error"}


def error_document(status: int, message: str, code: str | None = None, param: str | None = None,
                   details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An error as every service tells it: OpenAI's form with details, and the message once more at
    the top, where clients of Inferno's programs look for it."""
    return {"error": {"message": message, "type": _TYPES.get(status, "server_error"),
                      "param": param, "code": code, "details": dict(details or {})},
            "message": message}
