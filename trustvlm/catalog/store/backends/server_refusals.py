"""Why a PostgreSQL server refuses a connection, and what to do, by what it says: the driver
hands on no SQLSTATE before there is a connection."""

from __future__ import annotations

import re

_REFUSALS = (
    (
        r'database ".*" does not exist',
        "there is no such database; 'createdb --encoding=UTF8 --template=template0 NAME' makes one",
    ),
    (r'role ".*" does not exist', "there is no such role; 'createuser NAME' makes one"),
    (
        "no password supplied",
        "the server asks for a password; write it into ~/.pgpass, or set PGPASSWORD",
    ),
    (
        "password authentication failed",
        "the server takes no such user with this password; check both, ~/.pgpass and PGPASSWORD",
    ),
    (
        "authentication failed|no pg_hba.conf entry|pg_hba.conf rejects",
        "the server refuses the login; check the user, and the server's pg_hba.conf",
    ),
    (
        "permission denied for database|is not permitted to log in|not currently accepting",
        "the server keeps the role out of this database; grant it CONNECT and LOGIN",
    ),
    (
        "too many (clients|connections)|remaining connection slots",
        "the server has no connection left; raise its max_connections, or lower database_pool",
    ),
    (
        "is starting up|is shutting down|in recovery mode|not yet accepting",
        "the server starts or stops; try again",
    ),
    (
        "could not translate host name|failed to resolve host|Name or service not known",
        "no machine has the name of its host; check it",
    ),
)
"""What a server, or the driver, says in English, and what it means."""

_OTHERS = "the server cannot be reached, refuses the login, or has ended; check it and the network"


def why_refused(said: str) -> str:
    """What the message of a connection that failed, or was lost, means; in other languages than
    English all that it may mean."""
    if re.search("Connection refused|No such file|timed? ?out", said):
        return "the server cannot be reached; check that it runs, its address and the network"
    return next((meant for one, meant in _REFUSALS if re.search(one, said)), _OTHERS)
