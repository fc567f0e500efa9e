"""How a host reaches the database: over TLS, and by a list of servers of which one is the primary."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import postgres
import pytest
from cli_runner import Cli

import trustvlm
from trustvlm.errors import Unavailable

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing())),
]


@pytest.fixture(scope="module")
def certified() -> Iterator[tuple[int, Path]]:
    """A server that speaks TLS as "localhost": its port, and the certificate of its authority."""
    trustme = pytest.importorskip("trustme")
    folder = Path(tempfile.mkdtemp(prefix="tv-tls-"))
    folder.chmod(0o755)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "key.pem").chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(folder / "key.pem", postgres._other_user(), None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = ("listen_addresses=127.0.0.1", f"port={port}", "ssl=on",
                f"ssl_cert_file={folder}/cert.pem", f"ssl_key_file={folder}/key.pem")  # fmt: skip
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPORT", str(port))  # its socket has the port in its name
            server = stack.enter_context(postgres.server(*settings))
            server.create("tv")
        yield port, folder / "ca.pem"


def test_tls_with_the_certificate_checked(certified: tuple[int, Path], cli: Cli) -> None:
    port, authority = certified
    where = f"postgresql://{postgres.USER}@localhost:{port}/tv?sslmode=verify-full"
    url = f"{where}&sslrootcert={authority}"
    with trustvlm.open(cli.home, create=True, database_url=url) as service:
        service.create_space("s", classifier="precomputed:4")
        assert [space.name for space in service.list_spaces()] == ["s"]
    said = cli("--database-url", url, "db", "doctor")
    assert "TLS" in said
    assert any(line.split()[:3] == ["TLS", "on", "ok"] for line in said.splitlines())


def test_a_certificate_of_another_is_refused(certified: tuple[int, Path], tmp_path: Path) -> None:
    """Of another name, and of an authority that is not trusted."""
    port, authority = certified
    other_name = f"postgresql://{postgres.USER}@127.0.0.1:{port}/tv?sslmode=verify-full"
    not_trusted = f"postgresql://{postgres.USER}@localhost:{port}/tv?sslmode=verify-full"
    trustme = pytest.importorskip("trustme")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for url, root in ((other_name, authority), (not_trusted, tmp_path / "other.pem")):
        with pytest.raises(Unavailable, match="certificate"):
            trustvlm.open(tmp_path / "home", create=True, database_url=f"{url}&sslrootcert={root}")


def test_the_first_of_several_servers_that_answers(
    postgres_server: postgres.Server, tmp_path: Path
) -> None:
    """A name for each server, as after a failover without a shared address."""
    postgres_server.create("several", "head")
    host = f"{tmp_path}/nowhere,{postgres_server.folder}"
    url = f"postgresql://{postgres.USER}@/several?host={host}&target_session_attrs=read-write"
    with trustvlm.open(tmp_path / "home", database_url=url) as service:
        assert not list(service.list_spaces())
    postgres_server.drop("several")
