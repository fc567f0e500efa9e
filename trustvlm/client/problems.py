"""What the service says went wrong, as the errors that the library raises."""

from __future__ import annotations

import math

import httpx

from trustvlm import errors
from trustvlm.errors import STATUSES, TrustVLMError, Unavailable

__all__ = ["error_of", "problem_of", "seconds_of"]

_OF_STATUS = {status: kind for kind, status in STATUSES.items()} | {
    502: Unavailable,
    504: Unavailable,
}  # as proxies say


def problem_of(response: httpx.Response) -> tuple[TrustVLMError, str | None]:
    """(the error, its kind) that an answer tells of; the kind is None where it is not in the
    service's shape."""
    try:
        told = response.json()["error"]
        kind, message, request_id = str(told["kind"]), str(told["message"]), str(told["request_id"])
    except (ValueError, KeyError, TypeError):
        found = _OF_STATUS.get(response.status_code, TrustVLMError)
        text = " ".join(response.text.split())[:200]
        return found(
            f"{response.request.url} answered {response.status_code}: {text or 'nothing'}"
        ), None
    problem = error_of(kind, message, response.status_code)
    problem.request_id = request_id
    problem.add_note(f"(request id {request_id})")
    return problem, kind


def error_of(kind: str, message: str, status: int | None = None) -> TrustVLMError:
    """An error of the service's as the class of trustvlm.errors that it was there."""
    found = getattr(errors, kind, None) if kind in errors.__all__ else None
    if not (isinstance(found, type) and issubclass(found, TrustVLMError)):
        found = _OF_STATUS.get(status or 500, TrustVLMError)
    return found(message)


def seconds_of(text: str | None) -> float | None:
    """A Retry-After header in seconds; None where there is none, or a date."""
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    return None if seconds is None or not math.isfinite(seconds) else max(seconds, 0.0)
