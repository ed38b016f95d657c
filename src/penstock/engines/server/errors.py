"""Errors as OpenAI's clients and vLLM's expect them."""

from typing import Any

from penstock.engines.http import HttpError

_TYPES = {400: "BadRequestError", 404: "NotFoundError", 405: "MethodNotAllowedError",
          413: "RequestEntityTooLargeError", 500: "InternalServerError",
          503: "ServiceUnavailableError"}


class ApiError(HttpError):
    """An answer other than 200; ``param`` is the field of the body that is to blame."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(status, message)
        self.param = param

    def document(self) -> dict[str, Any]:
        """The answer's body."""
        return error_document(self.status, str(self), self.param)


def error_document(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape; ``code`` is the HTTP status, as vLLM gives it."""
    return {"error": {"message": message, "type": _TYPES.get(status, "APIError"), "param": param,
                      "code": status}}
