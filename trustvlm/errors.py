"""Everything trustvlm raises on purpose.

::

    TrustVLMError
    ├── NotFound        a space, label, support image, recipe, file or home that does not exist
    ├── Conflict        the call contradicts what is stored
    ├── InvalidInput    an argument that cannot be right in any state
    ├── Refused         the HTTP service does not take the request as it came
    │   ├── Unauthorized    no key, or none that is valid
    │   ├── Forbidden       the key does not open this
    │   ├── TooLarge        more bytes than the service reads
    │   ├── TooSlow         a body that stopped arriving
    │   ├── UnsupportedType a body of a type or an encoding that the route does not read
    │   └── TooMany         more requests than the key may make
    └── Unavailable     right request, but not now or not here
        ├── ReadOnly    the home cannot be written
        ├── Busy        another process kept the write lock too long
        ├── SchemaMismatch  the catalog is older or newer than this program
        ├── Overloaded  the HTTP service has as much to do as it takes
        ├── WeightsMissing  model weights are not on this machine and cannot be fetched
        ├── Damaged     stored bytes do not match their checksum
        └── StaysHere   an open service or client cannot be pickled or copied

Each message names the argument or the object, what was expected and what arrived, or the command
that mends it. The command line maps the kinds to exit codes (:data:`EXIT_CODES`); HTTP maps them to
statuses.
"""

from __future__ import annotations

__all__ = [
    "EXIT_CODES", "FOUND_DAMAGE", "LASTING", "LEFT_OUT", "STATUSES", "Busy", "Conflict", "Damaged",
    "Forbidden", "InvalidInput", "NotFound", "Overloaded", "ReadOnly", "Refused", "SchemaMismatch",
    "StaysHere", "TooLarge", "TooMany", "TooSlow", "TrustVLMError", "Unauthorized", "Unavailable",
    "UnsupportedType", "WeightsMissing",
]  # fmt: skip


class TrustVLMError(Exception):
    """Base of every error that trustvlm raises on purpose.

    Attributes:
        request_id: of the request in the log of the HTTP service, where the error came from one.
        public: the message for those who do not run the service, where they get another one: it
            does not say where the database is, nor what that answered.
    """

    request_id: str | None = None
    public: str | None = None


class NotFound(TrustVLMError):
    """A space, label, support image, recipe, file or home that does not exist."""


class Conflict(TrustVLMError):
    """The request contradicts what is stored."""


class InvalidInput(TrustVLMError, ValueError):
    """An argument that cannot be right: wrong shape, not finite, unknown rule, empty name."""


class Refused(TrustVLMError):
    """The HTTP service does not take the request as it came."""


class Unauthorized(Refused):
    """No key came with the request, or none that is valid."""


class Forbidden(Refused):
    """The key that came with the request does not open this."""


class TooLarge(Refused):
    """The request has more bytes than the service reads."""


class TooSlow(Refused):
    """The body of the request stopped arriving, or arrived too slowly."""


class UnsupportedType(Refused):
    """The body of the request has a content type, or a content encoding, that the route does not
    read."""


class TooMany(Refused):
    """The key made more requests than it may; `retry_after` seconds later there is room again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(TrustVLMError):
    """A right request that cannot be served now or on this machine."""


class ReadOnly(Unavailable):
    """The home cannot be written."""


class Busy(Unavailable):
    """Another process kept the catalog's write lock longer than the busy timeout."""


class SchemaMismatch(Unavailable):
    """The catalog's schema is older or newer than this program's."""


class Overloaded(Unavailable):
    """The HTTP service has as much to do as it takes; trying again after `retry_after` seconds may
    help."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WeightsMissing(Unavailable):
    """Model weights are not on this machine and could not be fetched."""


class Damaged(Unavailable):
    """Stored bytes do not match their checksum."""


class StaysHere(Unavailable, TypeError):
    """An open service or client cannot be pickled or copied; a TypeError, too, as the refusals of
    pickle are."""


LASTING: tuple[type[Unavailable], ...] = (ReadOnly, SchemaMismatch, WeightsMissing, Damaged)
"""Kinds of Unavailable that last until a user mends the cause: a second try does not help."""

EXIT_CODES: dict[type[TrustVLMError], int] = {
    InvalidInput: 2,
    NotFound: 3,
    Conflict: 4,
    Unavailable: 5,
}
"""Exit code of each kind (the first one that the error is an instance of)."""

STATUSES: dict[type[TrustVLMError], int] = {
    NotFound: 404,
    Conflict: 409,
    InvalidInput: 422,
    Unauthorized: 401,
    Forbidden: 403,
    TooLarge: 413,
    TooSlow: 408,
    UnsupportedType: 415,
    TooMany: 429,
    Unavailable: 503,
}
"""HTTP status of each kind (the first one that the error is an instance of)."""

FOUND_DAMAGE = 6
"""Exit code of 'trustvlm verify' for a damaged home: no error, since the verification succeeded."""

LEFT_OUT = 7
"""Exit code of 'trustvlm --strict' where images, rows or folders could not be read: no error, since
the rest is done."""
