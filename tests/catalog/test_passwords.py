"""The password of a database is in no message, log line, traceback or repr."""

from __future__ import annotations

import logging
import os
import re
import shlex
import traceback
from contextlib import suppress
from pathlib import Path

import httpx
import postgres
import pytest
from cli_runner import COMMAND, Cli
from click.testing import CliRunner
from forked import Child
from numbered import create
from server_process import ready, server

import trustvlm
from trustvlm.cli import main
from trustvlm.errors import InvalidInput
from trustvlm.settings import Settings

needs_server = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))

PASSWORD = "zQ7"
"""Part of each password, and each piece of it, of ADDRESSES."""

ADDRESSES = {
    "of a database that is not supported": "mysql://app:zQ7@db/tv",
    "percent-encoded": "mysql://app:zQ7%2FzQ7%40zQ7@db/tv",
    "with an @": "mysql://app:zQ7@zQ7@db/tv",
    "with a colon": "mysql://app:zQ7:zQ7@db/tv",
    "with a slash": "mysql://app:zQ7/zQ7@db/tv",
    "with a question mark": "mysql://app:zQ7?zQ7@db/tv",
    "of no user": "mysql://:zQ7@db/tv",
    "in the query": "mysql://db/tv?user=app&password=zQ7",
    "in the query, with an ampersand": "mysql://db/tv?password=zQ7&zQ7",
    "with a port that is none": "postgresql://app:zQ7@db:port/tv",
    "without its scheme": "app:zQ7@db/tv",
    "with one slash": "postgresql:/app:zQ7@db/tv",
    "of a connection string": "host=db user=app password=zQ7",
    "of an empty scheme": "://app:zQ7@db/tv",
}


def everything_said(error: BaseException) -> str:
    return repr(error) + "".join(traceback.format_exception(error))


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_that_is_refused(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidInput, match="database_url: ") as refusal:
        trustvlm.open(tmp_path / "home", create=True, database_url=address)
    assert PASSWORD not in everything_said(refusal.value)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("key", ["device", "database_ulr", "thresholds", "batch_size"])
def test_an_address_under_a_wrong_key_of_the_settings(
    tmp_path: Path, address: str, key: str
) -> None:
    (tmp_path / "trustvlm.toml").write_text(f'{key} = "{address}"\n')
    with pytest.raises(InvalidInput, match=key) as refusal:
        trustvlm.open(tmp_path, create=True)
    assert PASSWORD not in everything_said(refusal.value)


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("name", ["device", "thresholds", "batch_size"])
def test_an_address_in_a_wrong_variable(
    tmp_path: Path, address: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TRUSTVLM_{name.upper()}", address)
    with pytest.raises(InvalidInput) as refusal:
        Settings.of(tmp_path)
    assert PASSWORD not in everything_said(refusal.value)


def test_the_message_says_what_arrived(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"got 'mysql://\*\*\*'"):
        trustvlm.open(tmp_path, create=True, database_url="mysql://app:zQ7@db/tv")


SERVERS = {
    "postgresql": "postgresql://app:zQ7@127.0.0.1:1/tv",
    "with its driver": "postgresql+psycopg://app:zQ7@127.0.0.1:1/tv",
    "percent-encoded": "postgresql://app:zQ7%2FzQ7%40zQ7%3F@127.0.0.1:1/tv",
    "with an @": "postgresql://app:zQ7@zQ7@127.0.0.1:1/tv",
    "with a colon": "postgresql://app:zQ7:zQ7@127.0.0.1:1/tv",
    "with a slash": "postgresql://app:zQ7/zQ7@127.0.0.1:1/tv",
    "with a hash": "postgresql://app:zQ7#zQ7@127.0.0.1:1/tv",
    "of no user": "postgresql://:zQ7@127.0.0.1:1/tv",
    "in the query": "postgresql://127.0.0.1:1/tv?user=app&password=zQ7",
    "in the query, encoded": "postgresql://127.0.0.1:1/tv?user=app&p%61ssword=zQ7",
    "twice": "postgresql://app:zQ7@127.0.0.1:1/tv?password=zQ7&password=zQ7",
    "of a certificate": "postgresql://app@127.0.0.1:1/tv?sslpassword=zQ7",
    "of an option that is none": "postgresql://app@127.0.0.1:1/tv?paswort=zQ7",
}
"""Addresses of servers that nobody answers at, or that cannot be read."""

every_server = pytest.mark.parametrize("address", SERVERS.values(), ids=SERVERS)


@needs_server
@every_server
@pytest.mark.parametrize("create", [True, False])
def test_a_server_that_does_not_answer(
    tmp_path: Path, address: str, create: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(trustvlm.TrustVLMError) as refusal:
        trustvlm.open(tmp_path / "home", create=create, database_url=address)
    assert PASSWORD not in everything_said(refusal.value)
    assert PASSWORD not in caplog.text


@needs_server
@every_server
def test_on_the_command_line(cli: Cli, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed, a password would stand in the list of processes and in the shell's history, and is
    refused; in the environment it is not shown."""
    commands = (["space", "list"], ["db", "create"], ["db", "current"], ["db", "upgrade"])
    for command in commands:
        typed = CliRunner().invoke(main, ["-vv", "--database-url", address, *command])
        assert typed.exit_code not in (0, 1), typed.output
        assert PASSWORD not in typed.output
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", address)
    for command in commands:
        result = CliRunner().invoke(main, ["--home", str(cli.home), "-vv", *command])
        assert result.exit_code not in (0, 1), result.output
        assert PASSWORD not in result.output


@needs_server
@every_server
def test_in_the_settings_of_a_home(tmp_path: Path, address: str) -> None:
    (tmp_path / "trustvlm.toml").write_text(f'database_url = "{address}"\n')
    settings = Settings.of(tmp_path)
    assert PASSWORD not in repr(settings) + str(settings) + settings.model_dump_json()
    with suppress(InvalidInput):
        location = settings.location(tmp_path)
        assert PASSWORD not in str(location) + repr(location)


@pytest.mark.slow  # by default: tests/hosts/test_two_hosts.py, without a password
@needs_server
def test_a_server_that_goes_away_under_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What clients, the log and the list of processes get to know. Clients do not learn where the
    database is either; the log says it."""
    with postgres.server() as database:
        address = database.create("tv").replace(f"{postgres.USER}@", f"{postgres.USER}:zQ7@")
        home = tmp_path / "home"
        with trustvlm.open(home, create=True, database_url=address) as service:
            create(service)
            told = repr(vars(service._home.catalog)) + repr(vars(service._home))
            assert PASSWORD not in told
        monkeypatch.setenv("TRUSTVLM_DATABASE_URL", address)
        log = tmp_path / "log"
        with server(home, log=log) as (one, at):
            ready(at)
            database.kill()
            answers = [httpx.get(f"{at}{path}") for path in ("/v1/spaces", "/readyz", "/metrics")]
            commands = Path(f"/proc/{one.pid}/cmdline").read_text()
        database.start()
    assert answers[0].status_code == 503, answers[0].text
    told = "".join(one.text for one in answers)
    assert PASSWORD not in commands + log.read_text() + told
    assert "the database" in answers[0].json()["error"]["message"]
    # The metrics are answered without the database; their names have the word trustvlm in them.
    errors = "".join(one.text for one in answers[:2])
    assert not [name for name in (postgres.USER, "schema") if name in errors]
    assert str(database.folder) not in told
    assert str(database.folder) in log.read_text()


@needs_server
def test_what_clients_read_of_a_server_that_is_refused(tmp_path: Path) -> None:
    """An error that trustvlm raises by itself, as one that the driver raises."""
    with postgres.server("fsync=off") as forgetful:
        url = forgetful.create("tv")
        with pytest.raises(trustvlm.Unavailable, match="fsync=off") as refusal:
            trustvlm.open(tmp_path, create=True, database_url=url)
    assert refusal.value.public is not None
    assert refusal.value.public.startswith("the database runs with fsync=off")
    assert str(forgetful.folder) in str(refusal.value)
    assert str(forgetful.folder) not in refusal.value.public


@needs_server
def test_the_hint_of_serve_names_the_database(
    postgres_server: postgres.Server, tmp_path: Path
) -> None:
    """The suggested command makes a key where the service looks for it."""
    url = postgres_server.create("hint", "head")
    where = ["--home", str(tmp_path / "home"), "--database-url", url]
    command = [*COMMAND[1:], *where, "serve", "--port", "0", "--require-key"]
    with Child(command, os.environ, stderr=None) as serving:
        greeting = serving.stdout.readline()
        serving.terminate()
        serving.communicate(timeout=60)
    found = re.search(r"'trustvlm (.+)' makes one", greeting)
    assert found, greeting
    assert shlex.split(found[1]) == [*where, "key", "create", "--scope", "admin"]
    postgres_server.drop("hint")
