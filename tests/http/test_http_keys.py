"""Keys: what each opens, that every route asks for one, and that nothing but the key itself is good
enough."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from http_service import Http, routes, served

import trustvlm
from trustvlm.catalog.server import keys as key_rows
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.guard.logs import JsonLines
from trustvlm.service.server.api_keys import SCOPES

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: test_two_hosts.py

OPEN = {"/healthz", "/readyz", "/", "/static/{name:path}", "/openapi.json", "/docs", "/docs/{name}"}
"""What nobody needs a key for: whether the service is alive, the page, and which requests there
are."""

EXPECTED = {
    "admin": {
        ("GET", "/v1/encoders"),
        ("POST", "/v1/spaces"),
        ("DELETE", "/v1/spaces/{space}"),
        ("POST", "/v1/spaces/{space}/restore"),
    },
    "write": {
        ("DELETE", "/v1/spaces/{space}/removed"),
        ("POST", "/v1/spaces/{space}/labels"),
        ("POST", "/v1/spaces/{space}/sync"),
        ("PATCH", "/v1/spaces/{space}/labels/{label}"),
        ("PUT", "/v1/spaces/{space}/labels/{label}"),
        ("DELETE", "/v1/spaces/{space}/labels/{label}"),
        ("POST", "/v1/spaces/{space}/labels/{label}/restore"),
        ("POST", "/v1/spaces/{space}/labels/{label}/supports"),
        ("POST", "/v1/spaces/{space}/labels/{label}/alias"),
        ("DELETE", "/v1/spaces/{space}/labels/{label}/alias"),
        ("POST", "/v1/spaces/{space}/remove-supports"),
        ("POST", "/v1/spaces/{space}/restore-supports"),
        ("DELETE", "/v1/spaces/{space}/supports/{support}"),
        ("POST", "/v1/spaces/{space}/supports/{support}/restore"),
        ("POST", "/v1/spaces/{space}/feedback"),
        ("POST", "/v1/spaces/{space}/calibrate"),
        ("POST", "/v1/spaces/{space}/observations/calibrate"),
        ("DELETE", "/v1/spaces/{space}/calibrations/{calibration}"),
        ("POST", "/v1/jobs/{job}/cancel"),
        ("POST", "/v1/spaces/{space}/review"),
        ("POST", "/v1/spaces/{space}/review/items/{item}/answer"),
        ("POST", "/v1/spaces/{space}/review/items/{item}/skip"),
        ("POST", "/v1/spaces/{space}/review/items/{item}/undo"),
        ("POST", "/v1/spaces/{space}/review/import"),
        ("POST", "/v1/spaces/{space}/review/logged"),
        ("PATCH", "/v1/spaces/{space}/supports/{support}"),
        ("POST", "/v1/spaces/{space}/move-supports"),
        ("POST", "/v1/spaces/{space}/keep-supports"),
        ("POST", "/v1/spaces/{space}/propose"),
        ("DELETE", "/v1/spaces/{space}/proposed-supports"),
        ("POST", "/v1/spaces/{space}/remove-labels"),
        ("PUT", "/v1/spaces/{space}/taxonomy"),
        ("POST", "/v1/spaces/{space}/verdict-log"),
    },
}


def guarded() -> list[tuple[str, str, str]]:
    """(method, path, scope) of every route that asks for a key."""
    found = []
    for route in routes():
        scopes = [d.dependency.scope for d in route.dependencies if isinstance(d.dependency, Scope)]
        if route.path not in OPEN:
            assert len(scopes) == 1, f"{route.path} asks for no key"
            found += [(method, route.path, scopes[0]) for method in sorted(route.methods)]
        else:
            assert scopes == []
    return found


ROUTES = guarded()
IDS = [f"{method} {path}" for method, path, _ in ROUTES]


def test_the_table_has_every_route_of_the_application(http: Http) -> None:
    """Asked of the running application, which also has what FastAPI adds by itself."""

    def flat(found: Any) -> list[tuple[str, str]]:
        inner = getattr(found, "routes", None) or getattr(
            getattr(found, "original_router", None), "routes", None
        )
        if inner is not None and not hasattr(found, "methods"):
            return [one for route in inner for one in flat(route)]
        return [(method, found.path) for method in found.methods or () if method != "HEAD"]

    there = {(method, path) for method, path in flat(http.app.router) if path not in OPEN}
    assert there == {(method, path) for method, path, _ in ROUTES}
    assert len(there) >= 28


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_back_end: None) -> Iterator[Http]:
    """A service that wants a key always, with the spaces "s" and "t"."""
    with served(tmp_path_factory.mktemp("keys") / "home", require_key=True, rate=1e6) as running:
        for name in ("s", "t"):
            running.service.create_space(name, classifier="precomputed:2")
            running.service.register(
                name, [trustvlm.LabelInput("a", text_vector=[1, 0], image_vectors=[[1, 0]])]
            )
        yield running


@pytest.fixture(scope="module")
def keys(http: Http) -> dict[tuple[str, str | None], str]:
    """A key of each scope, for all spaces and for "s" only."""
    return {
        (scope, space): http.serving.home.create_key(scope, space=space)[1]
        for scope in SCOPES
        for space in (None, "s")
    }


def concrete(path: str, space: str) -> str:
    given = {
        "space": space,
        "label": "a",
        "support": "1",
        "calibration": "1",
        "item": "1",
        "observation": "1",
        "job": "none",
    }
    return re.sub(r"{(\w+)}", lambda found: given[found[1]], path)


def test_the_scopes_are_those_that_were_decided() -> None:
    """A route that is added is a read, or somebody decides here who may ask."""
    for scope, expected in EXPECTED.items():
        assert {(method, path) for method, path, own in ROUTES if own == scope} == expected
    asking = ("/score", "/search", "/evaluate", "/embed", "/evidence", "/check-labels")
    asking += ("/audit", "/count-labels", "/count-supports")
    assert all(
        method == "GET" or path.endswith(asking) for method, path, own in ROUTES if own == "read"
    )


@pytest.fixture(scope="module")
def past(http: Http) -> dict[str, str]:
    """Keys of the highest scope that open nothing any more, by what became of them."""
    made = {
        what: http.serving.home.create_key("admin", days=1e-7 if what == "expired" else None)
        for what in PAST
    }
    http.serving.home.revoke_key(made["revoked"][0].id)
    http.serving.home.rotate_key(made["rotated"][0].id)
    time.sleep(0.02)
    return {what: key for what, (_, key) in made.items()}


PAST = ("revoked", "rotated", "expired")
OF_THE_ROUTE = "which scope a route asks for does not depend on where the keys are"


@pytest.mark.only_sqlite(OF_THE_ROUTE)
@pytest.mark.parametrize(("method", "path", "scope"), ROUTES, ids=IDS)
def test_every_route_refuses_keys_of_the_past(
    http: Http, past: dict[str, str], method: str, path: str, scope: str
) -> None:
    for what in PAST:
        error = http(method, concrete(path, "s"), status=401, key=past[what])["error"]
        assert error["kind"] == "Unauthorized", what


@pytest.mark.only_sqlite(OF_THE_ROUTE)
@pytest.mark.parametrize(("method", "path", "scope"), ROUTES, ids=IDS)
def test_every_route_refuses_every_scope_below_its_own(
    http: Http, keys: dict[tuple[str, str | None], str], method: str, path: str, scope: str
) -> None:
    url = concrete(path, "s")
    assert http(method, url, status=401)["error"]["kind"] == "Unauthorized"
    wrong = keys["admin", None][:-4] + "AAAA"
    answer = http.ask(method, url, status=401, key=wrong)
    assert answer.headers["www-authenticate"] == "Bearer"
    for held in SCOPES:
        for space in (None, "s"):
            if SCOPES.index(held) < SCOPES.index(scope):
                error = http(method, url, status=403, key=keys[held, space])["error"]
                assert (error["kind"], scope in error["message"]) == ("Forbidden", True)
    # The least that opens it does: whatever comes next is no question of keys. Nothing is sent, so
    # nothing is changed.
    if method in ("GET", "POST", "PATCH") and not path.endswith("/restore"):
        assert http.ask(method, url, status=None, key=keys[scope, None]).status_code not in (
            401,
            403,
        )
    if "{space}" in path:
        error = http(method, concrete(path, "t"), status=403, key=keys["admin", "s"])["error"]
        assert "'s' only" in error["message"]


OF_ALL_SPACES = {
    ("GET", "/metrics"), ("GET", "/v1/rules"), ("GET", "/v1/limits"), ("GET", "/v1/spaces"),
    ("POST", "/v1/spaces"), ("GET", "/v1/encoders"),
    ("GET", "/v1/jobs"), ("GET", "/v1/jobs/{job}"), ("POST", "/v1/jobs/{job}/cancel"),
    ("GET", "/v1/supports/{support}/thumbnail"),
}  # fmt: skip
"""Routes whose path names no space; what they tell a key for one space is looked at below."""


def test_a_key_for_a_space_sees_no_other(
    http: Http, keys: dict[tuple[str, str | None], str]
) -> None:
    assert {(method, path) for method, path, _ in ROUTES if "{space}" not in path} == OF_ALL_SPACES
    http("GET", "/metrics", status=403, key=keys["admin", "s"])
    (of_t,) = [row.id for row in http.service.list_supports("t", "a")]
    error = http("GET", f"/v1/supports/{of_t}/thumbnail", status=404, key=keys["admin", "s"])[
        "error"
    ]
    assert (
        error["message"] == f"no support image {of_t}"
    )  # not that there is one, which came as a vector
    assert (
        http("GET", "/v1/rules", key=keys["read", "s"])["default"] == trustvlm.DEFAULT_RULE
    )  # the same for everybody
    assert http("GET", "/v1/limits", key=keys["read", "s"])["form_files"] == 256
    assert http("GET", "/v1/encoders", key=keys["admin", "s"])["encoders"] == []
    assert 'space="t"' in http.ask("GET", "/metrics", key=keys["read", None]).text
    assert [
        row["name"] for row in http.ask("GET", "/v1/spaces", key=keys["read", "s"]).json()["spaces"]
    ] == ["s"]
    body = {"name": "u", "classifier": "precomputed:2"}
    http("POST", "/v1/spaces", json=body, status=403, key=keys["admin", "s"])
    queries = {"classifier": [[1.0, 0.0]], "truth": ["a"]}
    job = http.ask(
        "POST", "/v1/spaces/t/evaluate", json=queries, status=202, key=keys["read", None]
    ).json()
    http("GET", f"/v1/jobs/{job['id']}", status=403, key=keys["read", "s"])
    http("POST", f"/v1/jobs/{job['id']}/cancel", status=403, key=keys["admin", "s"])
    assert http("GET", "/v1/jobs", key=keys["read", "s"])["jobs"] == []
    assert len(http("GET", "/v1/jobs", key=keys["read", None])["jobs"]) == 1
    (other,) = http.service.list_supports("t", "a")
    refused = http("GET", f"/v1/supports/{other.id}/thumbnail", status=404, key=keys["read", "s"])[
        "error"
    ]["message"]
    assert refused == f"no support image {other.id}"
    seen = http("GET", f"/v1/supports/{other.id}/thumbnail", status=404, key=keys["read", None])[
        "error"
    ]["message"]
    assert "registered as a vector" in seen


def test_what_is_no_key(http: Http, keys: dict[tuple[str, str | None], str]) -> None:
    good = keys["read", None]
    key_id, secret = good.split("_", 2)[1:]
    other_id = keys["write", None].split("_", 2)[1]
    mixed = (
        f"Bearer tvk_{other_id}_{secret}",
        f"Bearer tvk_{key_id}_",
        f"Bearer tvk_{key_id.upper()}_{secret}",
        "Bearer tvk__",
    )
    near = f"Basic {good}", good, f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good.upper()}"
    for header in ("", "Bearer", "Bearer ", "Bearer " + "x" * 5_000, *mixed, *near):
        http("GET", "/v1/spaces", headers={"authorization": header}, status=401)
    http("GET", "/v1/spaces", headers={"authorization": f"bearer  {good}"})
    http("GET", "/v1/spaces", headers={"authorization": b"Bearer \xff\xfe"}, status=401)


def test_keys_are_stored_as_hashes(http: Http) -> None:
    made = [http.serving.home.create_key("read")[1] for _ in range(2)]
    with http.service._home.catalog.read() as connection:
        records = {row.id: row for row in key_rows.list_rows(connection)}
    for key in made:
        _, key_id, secret = key.split("_", 2)
        stored = records[key_id].secret_hash
        assert stored == hashlib.sha256(secret.encode()).digest()
    for path in (http.service._home.folder).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(key.split("_", 2)[2].encode() in content for key in made), path


def test_scrypt_keys_of_version_0_1_open_and_are_stored_as_sha256(http: Http) -> None:
    row, key = http.serving.home.create_key("read")
    secret, salt = key.split("_", 2)[2].encode(), b"s" * 16
    old = salt + hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, maxmem=2**26, dklen=32)
    catalog = http.service._home.catalog
    with catalog.write("key") as connection:
        key_rows.touch(connection, row.id, datetime.now(UTC), old)
    http("GET", "/v1/spaces", key=key[:-1], status=401)
    http("GET", "/v1/spaces", key=key)
    with catalog.read() as connection:
        record = key_rows.find(connection, row.id)
    assert record is not None
    assert record.secret_hash == hashlib.sha256(secret).digest()


def test_revoked_rotated_and_expired_keys_stop_opening_at_once(http: Http) -> None:
    def opens(key: str) -> bool:
        return http.ask("GET", "/v1/spaces", status=None, key=key).status_code == 200

    row, key = http.serving.home.create_key("read", note="one")
    assert opens(key)
    assert (
        next(one for one in http.serving.home.list_keys() if one.id == row.id).used_at is not None
    )
    new_row, new = http.serving.home.rotate_key(row.id, overlap=timedelta(hours=1))
    assert (new_row.scope, new_row.note) == ("read", "one")
    assert opens(key)
    assert opens(new)
    http.serving.home.rotate_key(new_row.id)
    assert not opens(new)
    with pytest.raises(trustvlm.Conflict):
        http.serving.home.rotate_key(new_row.id)
    http.serving.home.revoke_key(row.id)
    assert not opens(key)
    short_row, short = http.serving.home.create_key("read", days=1e-6)
    time.sleep(0.1)
    assert not opens(short)
    assert short_row.expires_at is not None
    assert short_row.expires_at < datetime.now(UTC)


def test_a_key_may_ask_only_so_often(tmp_path: Path) -> None:
    with served(tmp_path / "home", require_key=True, rate=1e6) as http:
        slow, fast = (
            http.serving.home.create_key("read", rate=5)[1],
            http.serving.home.create_key("read")[1],
        )
        answers = [http.ask("GET", "/v1/spaces", status=None, key=slow) for _ in range(12)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [200] * 5
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) >= 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert refused[0].json()["error"]["kind"] == "TooMany"
        http("GET", "/v1/spaces", key=fast)  # another key is not held up
        time.sleep(0.4)
        http("GET", "/v1/spaces", key=slow)


def test_without_keys_only_this_machine_is_answered(tmp_path: Path) -> None:
    """No key is asked on loopback; pages of other sites, and names that resolve to it, get nothing
    all the same."""
    with served(tmp_path / "home") as http:
        http("GET", "/v1/spaces")
        http("GET", "/v1/spaces", headers={"authorization": "Bearer tvk_nonsense"}, status=401)
        for host in ("localhost:80", "127.0.0.1", "[::1]:8000"):
            http("GET", "/v1/spaces", headers={"host": host})
        for host in ("evil.example", "127.0.0.1.evil.example", "192.168.0.1", ""):
            http("GET", "/v1/spaces", headers={"host": host}, status=403)
        http("GET", "/v1/spaces", headers={"origin": "http://127.0.0.1"})
        for origin in ("http://evil.example", "null", "http://127.0.0.1:81"):
            http("POST", "/v1/spaces", headers={"origin": origin}, json={}, status=403)
        answer = http.ask(
            "OPTIONS", "/v1/spaces", headers={"origin": "http://127.0.0.1"}, status=405
        )
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_logs_tell_what_happened_and_no_more(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    key = http.serving.home.create_key("admin")[1]
    caplog.set_level(logging.INFO, logger="trustvlm.http")
    body = {"classifier": [[0.123456789, 0.5]], "labels": ["secret label"]}
    http(
        "POST",
        "/v1/spaces/s/score",
        json=body,
        status=404,
        key=key,
        headers={"x-request-id": "my-id.1"},
    )
    records = [record for record in caplog.records if record.name == "trustvlm.http"]
    line = JsonLines().format(records[-1])
    assert '"request_id": "my-id.1"' in line
    assert '"route": "/v1/spaces/{space}/score"' in line
    assert '"status": 404' in line
    for secret in (key, key.split("_", 2)[2], "0.123456789", "secret label"):
        assert secret not in line
    assert key.split("_")[1] in line


def test_keys_from_the_command_line(cli: Cli) -> None:
    made = cli.run("key", "create", "--scope", "write", "--note", "ci [x]")
    key = made.stdout.strip()
    assert re.fullmatch(r"tvk_[a-z2-7]{16}_[\w-]{43}", key)
    (row,) = cli.rows("key", "list")
    assert (row["id"], row["scope"], row["state"], row["note"]) == (
        key.split("_")[1],
        "write",
        "valid",
        "ci [x]",
    )
    assert key not in cli("key", "list")
    assert "secret_hash" not in row
    new = cli("key", "rotate", row["id"]).strip()
    assert [one["state"] for one in cli.rows("key", "list")] == ["expired", "valid"]
    cli("key", "revoke", new.split("_")[1])
    assert [one["state"] for one in cli.rows("key", "list")] == ["expired", "revoked"]
    cli("key", "revoke", "nope", code=3)
    cli("key", "rotate", row["id"], code=4)
    cli("key", "create", "--scope", "all", code=2)
    cli("key", "create", "--scope", "read", "--space", "nope", code=3)
    cli("key", "create", "--scope", "read", "--rate", "-1", code=2)


def test_scores_need_no_more_than_a_read_key(
    http: Http, keys: dict[tuple[str, str | None], str]
) -> None:
    body: dict[str, Any] = {"classifier": np.eye(2).tolist()}
    assert (
        len(http("POST", "/v1/spaces/s/score", json=body, key=keys["read", "s"])["verdicts"]) == 2
    )
