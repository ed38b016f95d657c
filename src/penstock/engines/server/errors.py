"""Errors as OpenAI's clients and vLLM's expect them."""

from typing import Any

from penstock.engines.http import HttpError

_TYPES = {400: "BadRequestError", 404: "NotFoundError", 405: "MethodNotAllowedError",
          413: "RequestEntityTooLargeError", 500: "InternalServerError",
          503: "ServiceUnavailableError"}


class ApiError(HttpError):
    """An answer with a status other than 200. ``param`` is the invalid field of the body."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(status, message)
        self.param = param

    def document(self) -> dict[str, Any]:
        """The answer's body."""
        return error_document(self.status, str(self), self.param)


def error_document(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's form. ``code`` is the HTTP status, as in vLLM."""
    return {"error": {"message": message, "type": _TYPES.get(status, "APIError"), "param": param,
                      "code": status}}
