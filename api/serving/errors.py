"""Errors in the form of the OpenAI API: a status, and ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The error that a request is refused. ``param``: the wrong field. ``code``: a word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the error."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}


def _type(status: int) -> str:
    if status == 429:
        return "requests"
    return "server_error" if status >= 500 else "invalid_request_error"


def full(waiting: int) -> ApiError:
    """Return the error that the queue is full."""
    return ApiError(
        429,
        f"{waiting} texts wait already, and no more may wait; send the request again in a moment.",
        "rate_limit_exceeded",
        headers={"Retry-After": "1"},
    )


def stopping() -> ApiError:
    """Return the error that the server is being stopped."""
    return ApiError(503, "the server is being stopped; send the request to another server.", "stopping")


def broken(reason: str) -> ApiError:
    """Return the error that the machine failed."""
    return ApiError(503, f"the machine failed: {reason}", "machine_failed")


def defect() -> ApiError:
    """Return the error of a defect in the server, which no client can correct."""
    return ApiError(500, "the server has a defect, which its log describes; tell its administrator.", "defect")


__all__ = ["ApiError", "broken", "defect", "full", "stopping"]
