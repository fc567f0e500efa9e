"""Options of the service."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from trustvlm.errors import InvalidInput
from trustvlm.settings import Settings

_ROOT = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_OURS = ("v1", "static", "healthz", "readyz", "metrics", "openapi.json", "docs")


_DEFAULTS = Settings.model_fields


@dataclass(frozen=True)
class ServeOptions:
    """Options of one application; the defaults are those of the settings serve_….

    Attributes:
        host, port: where it is bound. require_key: every request needs a key; without this it is
            bound to loopback.
        workers: processes that share the home. hosts: machines that serve the catalog, each with as
            many processes; rates are divided among all of them.
        encoders: specs that clients may make spaces with, besides precomputed ones.
        body_bytes: largest request body. bodies_bytes: of all requests at once.
        rate: requests a second of each key. queue: requests of one kind that may wait. in_flight:
            requests at once.
        deadline_s: how long a request may wait.
        batch_rows: most queries that are scored in one call. job_s: how long a job may take.
        body_s, body_rate: over each `body_s` seconds a body must arrive, and a client read its
            answer, at `body_rate` bytes a second; headers must arrive within `body_s`.
            keep_alive_s: how long a connection without a request stays open.
        log_level: from which level on log lines are written. forwarded_ips: addresses of proxies
            whose X-Forwarded-For is taken as the client's address.
        root_path: the path under which a proxy shows the service; empty: "/".
        otlp: where spans are sent, an address of an OpenTelemetry collector; empty: nowhere.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    require_key: bool = False
    workers: int = 1
    hosts: int = _DEFAULTS["serve_hosts"].default
    encoders: tuple[str, ...] = _DEFAULTS["serve_encoders"].default
    body_bytes: int = _DEFAULTS["serve_body_bytes"].default
    bodies_bytes: int = 256 * 2**20
    rate: float = _DEFAULTS["serve_rate"].default
    queue: int = _DEFAULTS["serve_queue"].default
    in_flight: int = 512
    deadline_s: float = _DEFAULTS["serve_deadline_s"].default
    batch_rows: int = 1024
    job_s: float = _DEFAULTS["serve_job_s"].default
    body_s: float = _DEFAULTS["serve_body_s"].default
    body_rate: float = _DEFAULTS["serve_body_rate"].default
    keep_alive_s: float = _DEFAULTS["serve_keep_alive_s"].default
    log_level: str = _DEFAULTS["serve_log_level"].default
    forwarded_ips: tuple[str, ...] = _DEFAULTS["serve_forwarded_ips"].default
    root_path: str = _DEFAULTS["serve_root_path"].default
    otlp: str = _DEFAULTS["serve_otlp"].default

    def __post_init__(self) -> None:
        object.__setattr__(self, "root_path", _checked_root(self.root_path))

    @property
    def processes(self) -> int:
        """Processes that serve the catalog, on all machines."""
        return self.hosts * self.workers


def _checked_root(path: str) -> str:
    """The path without a slash at its end. Raises InvalidInput: it is none, or one of the
    service's own."""
    root = path.rstrip("/")
    if root and (not _ROOT.fullmatch(root) or root.split("/")[1] in _OURS):
        words = "a path such as /trust, of ASCII letters, digits and -._~, that begins with none of"
        raise InvalidInput(f"root_path: expected {words} {', '.join(_OURS)}; got {path[:80]!r}")
    return root


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
