"""Everything trustvlm raises on purpose.

::

    TrustVLMError
    ├── NotFound        a space, label, support image, recipe, file or home that does not exist
    ├── Conflict        what is there already says something else
    ├── InvalidInput    an argument that cannot be right, whatever the state
    └── Unavailable     right request, but not now or not here
        ├── ReadOnly    the home cannot be written
        ├── Busy        another process kept the write lock too long
        ├── SchemaMismatch  the catalog is older or newer than this program
        ├── WeightsMissing  model weights are not on this machine and cannot be fetched
        └── Damaged     stored bytes do not match their checksum

Each message names the argument or the object, what was expected and what arrived, or the command that
mends it. The command line maps the kinds to exit codes (:data:`EXIT_CODES`); HTTP maps them to statuses.
"""

from __future__ import annotations

__all__ = [
    "EXIT_CODES",
    "FOUND_DAMAGE",
    "Busy",
    "Conflict",
    "Damaged",
    "InvalidInput",
    "NotFound",
    "ReadOnly",
    "SchemaMismatch",
    "TrustVLMError",
    "Unavailable",
    "WeightsMissing",
]


class TrustVLMError(Exception):
    """Base of every error that trustvlm raises on purpose."""


class NotFound(TrustVLMError):
    """A space, label, support image, recipe, file or home that does not exist."""


class Conflict(TrustVLMError):
    """The request contradicts what is stored."""


class InvalidInput(TrustVLMError, ValueError):
    """An argument that cannot be right: wrong shape, not finite, unknown rule, empty name."""


class Unavailable(TrustVLMError):
    """A right request that cannot be served now or on this machine."""


class ReadOnly(Unavailable):
    """The home cannot be written."""


class Busy(Unavailable):
    """Another process kept the catalog's write lock longer than the busy timeout."""


class SchemaMismatch(Unavailable):
    """The catalog's schema is older or newer than this program's."""


class WeightsMissing(Unavailable):
    """Model weights are not on this machine and could not be fetched."""


class Damaged(Unavailable):
    """Stored bytes do not match their checksum."""


EXIT_CODES: dict[type[TrustVLMError], int] = {InvalidInput: 2, NotFound: 3, Conflict: 4, Unavailable: 5}
"""Exit code of each kind (the first one that the error is an instance of)."""

FOUND_DAMAGE = 6
"""Exit code of 'trustvlm verify' where it found damage: no error, since it did what it was asked to do."""
