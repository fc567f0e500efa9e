"""How a client reaches its service: proxies, certificates and odd environments. What cannot work is
InvalidInput at once."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from forked import run_code
from proxies import Proxy, recording
from served_client import application, listening
from test_client_retries import scripted

import trustvlm
from trustvlm.client import Client
from trustvlm.service.server.server_home import ServerHome

VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "SSLKEYLOGFILE", "TRUSTVLM_KEY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """The port of a service with the space "s", and its key: with one, it answers under every
    name."""
    with (
        application(tmp_path_factory.mktemp("network") / "home", require_key=True) as app,
        listening(app) as port,
    ):
        service = app.state.serving.service
        service.create_space("s", classifier="precomputed:4")
        yield port, ServerHome(service).create_key("read")[1]


@pytest.fixture
def port(served: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("TRUSTVLM_KEY", served[1] + "\n")
    return served[0]


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    with recording(port) as found:
        yield found


def spaces(url: str, **options: Any) -> list[str]:
    with Client(url, **{"timeout": 20, "retries": 1} | options) as client:
        return [row.name for row in client.list_spaces()]


# Proxies

ELSEWHERE = "http://service.example:8000"


@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:{}"),
        ("http_proxy", "127.0.0.1:{}"),
        ("ALL_PROXY", " http://127.0.0.1:{}/ "),
        ("all_proxy", "http://127.0.0.1:{}"),
    ],
)
def test_the_environments_proxy_leads_to_a_service_elsewhere(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str, form: str
) -> None:
    monkeypatch.setenv(variable, form.format(proxy.port))
    assert spaces(ELSEWHERE) == ["s"]
    assert proxy.asked == ["service.example"]


def test_a_socks_proxy_serves(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
    assert spaces(ELSEWHERE) == ["s"]
    assert proxy.asked == ["service.example"]


@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}"),
        ("localhost", "socks5://127.0.0.1:{}"),
        ("LOCALHOST", "socks4://127.0.0.1:{}"),
        ("0.0.0.0", "http://["),
        ("127.1", "???"),
    ],
)
def test_this_machine_is_reached_without_a_proxy(
    port: int, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, host: str, value: str
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, value.format(proxy.port))
    assert spaces(f"http://{host}:{port}") == ["s"]
    assert proxy.asked == []


@pytest.mark.parametrize(
    "host", ["127.0.0.5", "[::1]", "[::ffff:127.0.0.1]", "localhost.", "a.localhost", "2130706433"]
)
def test_other_names_of_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "no proxy at all")  # an error where it is looked at
    Client(f"http://{host}:8000").close()
    Client(f"https://{host}:8000").close()


@pytest.mark.parametrize(
    ("exempt", "straight"),
    [
        ("*", True), ("service.example", True), (".example", True), ("example", True), ("*.example",
        True),
        ("other, service.example:8000", True), ("http://service.example", True), ("SERVICE.EXAMPLE",
        True),
        ("service.example:9", False), ("vice.example", False), ("[::1", False),
        ("10.0.0.0/8,???,:::,", False), ("", False),
    ],
)  # fmt: skip
def test_no_proxy_names_hosts(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, exempt: str, straight: bool
) -> None:
    """Where the host is exempt, nothing is found under its name; else the proxy leads to the
    service."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", exempt)
    if straight:
        with pytest.raises(trustvlm.Unavailable, match=r"service.example:8000: no answer"):
            spaces(ELSEWHERE, retries=0)
    else:
        assert spaces(ELSEWHERE) == ["s"]
    assert len(proxy.asked) == (0 if straight else 1)


@pytest.mark.parametrize(
    ("exempt", "straight"), [("10.0.0.0/8", True), ("10.1.2.3", True), ("10.2.0.0/16", False)]
)
def test_no_proxy_names_networks(
    monkeypatch: pytest.MonkeyPatch, exempt: str, straight: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks4://proxy")  # looked at only where it is needed
    monkeypatch.setenv("NO_PROXY", exempt)
    if straight:
        Client("http://10.1.2.3").close()
    else:
        with pytest.raises(trustvlm.InvalidInput, match=r"^HTTP_PROXY: "):
            Client("http://10.1.2.3")


def test_the_argument_comes_first(port: int, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    address = f"http://user:secret@127.0.0.1:{proxy.port}"
    assert spaces(ELSEWHERE, proxy=address) == ["s"]
    assert spaces(f"http://127.0.0.1:{port}", proxy=address) == [
        "s"
    ]  # of this machine too: asked for
    assert proxy.asked == ["service.example", "127.0.0.1"]
    assert b"roxy-" in proxy.headers[0]  # with its user and password
    with pytest.raises(trustvlm.Unavailable, match=r"service.example:8000: no answer"):
        spaces(ELSEWHERE, trust_env=False, retries=0)


def test_a_socks_proxy_without_its_version_is_told_how_to_say_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:1080/")
    with pytest.raises(
        trustvlm.InvalidInput,
        match=r"expected something like 'socks5://proxy\.example:1080', got 'socks://",
    ):
        Client(ELSEWHERE)


@pytest.mark.parametrize(
    "value",
    ["socks4://127.0.0.1:1", "http://[", "http://", "ftp://a", "http://a b", "http://a:99999",
    "http://a:0", "a\nb", "http://ü…/",
     "http://me:secret@[", "http://" + "a" * 64, "http://a..b"],
)  # fmt: skip
def test_a_proxy_that_cannot_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    variable = "ALL_PROXY" if value.startswith("socks") else "HTTP_PROXY"
    monkeypatch.setenv(variable, value)
    with pytest.raises(
        trustvlm.InvalidInput, match=rf"^{variable}: expected something like .*trust_env=False$"
    ) as caught:
        Client(ELSEWHERE)
    assert "secret" not in str(caught.value)
    Client(ELSEWHERE, trust_env=False).close()
    with pytest.raises(trustvlm.InvalidInput, match=r"^proxy: expected something like"):
        Client(ELSEWHERE, proxy=value)


def test_a_socks_proxy_without_its_package() -> None:
    code = (
        "import sys; sys.modules['socksio'] = None\nimport trustvlm\n"
        "try: trustvlm.Client('http://elsewhere', proxy='socks5://127.0.0.1:1')\n"
        "except trustvlm.InvalidInput as error: print(error)"
    )
    assert "pip install 'httpx[socks]'" in run_code(code).stdout


def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(
        trustvlm.Unavailable, match=r"through the proxy http://127.0.0.1:9"
    ) as caught:
        spaces(ELSEWHERE, retries=0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [ELSEWHERE, "https://service.example"])
def test_a_proxy_that_refuses_is_named(url: str) -> None:
    with scripted((407, b"", {}), retries=0) as (_, there):
        address = f"http://127.0.0.1:{there.server_port}"
        with pytest.raises(
            trustvlm.Unavailable, match=rf"through the proxy {address}\): .*(user and password|407)"
        ):
            spaces(url, proxy=address, retries=0)


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def encrypted(port: int, authority: trustme.CA) -> Iterator[int]:
    """A port that speaks TLS for "localhost" and "service.example", and leads to `port`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "service.example").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(
                target=_lead, args=(listener.accept()[0], context, port), daemon=True
            ).start()


def _lead(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """One question and one answer, each in one piece."""
    with (
        raw,
        suppress(OSError),
        context.wrap_socket(raw, server_side=True) as client,
        socket.create_connection(("127.0.0.1", port)) as server,
    ):
        server.sendall(client.recv(65536).replace(b"keep-alive", b"close"))
        while data := server.recv(65536):
            client.sendall(data)


def test_whose_certificates_are_trusted(
    port: int, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with encrypted(port, authority) as secure:
        url = f"https://localhost:{secure}"
        with pytest.raises(
            trustvlm.Unavailable, match=r"its certificate is not trusted .*verify=PATH"
        ):
            spaces(url)
        for verify in (pem, str(pem), context, False):
            assert spaces(url, verify=verify) == ["s"]
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        assert spaces(url) == ["s"]
        for options in ({"trust_env": False}, {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}):
            with pytest.raises(trustvlm.Unavailable, match=r"its certificate is not trusted"):
                spaces(url, **options)
        with pytest.raises(trustvlm.Unavailable, match=r"certificate is not valid for '127.0.0.1'"):
            spaces(f"https://127.0.0.1:{secure}")
        with recording(secure) as proxy:
            assert spaces("https://service.example", proxy=f"http://127.0.0.1:{proxy.port}") == [
                "s"
            ]
            assert proxy.asked == ["service.example"]


@pytest.mark.parametrize(
    ("status", "title", "message"),
    [
        (400, "400 The plain HTTP request was sent to HTTPS port", "https:// rather than http://"),
        (502, "502 Bad Gateway", r"answered 502: 502 Bad Gateway$"),
    ],
)
def test_a_page_of_a_proxy_is_named_by_its_title(status: int, title: str, message: str) -> None:
    """As nginx answers where the service is not reached."""
    page = f"<html><head><title>{title}</title></head><body>nginx</body></html>".encode()
    with (
        scripted((status, page, {}), retries=0) as (client, _),
        pytest.raises(trustvlm.Unavailable, match=message),
    ):
        client.list_spaces()


def test_an_encrypted_address_of_a_service_that_is_not(port: int) -> None:
    with pytest.raises(trustvlm.Unavailable, match=r"http:// rather than https://"):
        spaces(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere/at.pem"),
        ("SSL_CERT_FILE", "{}/empty.pem"),
        ("SSL_CERT_FILE", "a\x01b"),
        ("SSL_CERT_DIR", "/nowhere/at.pem"),
    ],
)
def test_certificates_that_are_not_there(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    monkeypatch.setenv(variable, value.format(tmp_path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert spaces(f"http://localhost:{port}") == ["s"]  # which needs none
    with pytest.raises(
        trustvlm.InvalidInput,
        match=rf"^{variable}: expected a file of certificates .*trust_env=False",
    ):
        Client("https://localhost")
    Client("https://localhost", trust_env=False).close()
    with pytest.raises(trustvlm.InvalidInput, match=r"^verify: expected a file of certificates"):
        Client("https://localhost", verify=value.format(tmp_path))


def test_a_log_of_keys_that_cannot_be_written(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys")
    assert spaces(f"http://localhost:{port}") == ["s"]
    with pytest.raises(
        trustvlm.InvalidInput, match=r"^SSLKEYLOGFILE: '/nowhere/keys' cannot be written"
    ):
        Client("https://localhost")


# Arguments and addresses


@pytest.mark.parametrize(
    "options",
    [
        {"verify": 3}, {"verify": None}, {"verify": b"\0"}, {"verify": "\0"},
        {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, {"proxy": 3}, {"proxy": ""},
        {"proxy": "proxy:3128"},
        {"trust_env": None}, {"trust_env": "no"},
        {"transport": httpx.HTTPTransport(), "proxy": "http://proxy:3128"},
        {"transport": httpx.HTTPTransport(), "verify": False},
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(trustvlm.InvalidInput, match=rf"^{next(iter(options))}: "):
        Client("https://elsewhere", **options)


@pytest.mark.parametrize(
    "url",
    ["http://a:99999", "http://a:0", "http://a:-1", "http://[::1",
    "http://" + "a" * 64 + ".example", "http://a..b",
     "http://a b", "http://💩.la", "//a", "http:///v1", "http://a#b", b"http://a", "http://me:secret@",
     "http://" + "a." * 200 + "b"],
)  # fmt: skip
def test_addresses_that_cannot_be(url: Any) -> None:
    with pytest.raises(
        trustvlm.InvalidInput, match=r"^url: expected something like 'http://127.0.0.1:8000'"
    ) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://münchen.invalid", "http://[::1]:9", "http://[fe80::1%25lo]:9", "http://a.invalid."],
)
def test_addresses_where_nothing_is(url: str) -> None:
    with pytest.raises(trustvlm.Unavailable, match=r"no answer"):
        spaces(url, retries=0)


def test_a_user_and_password_go_to_what_stands_before_the_service(served: tuple[int, str]) -> None:
    port, key = served
    assert spaces(f"http://me:secret@127.0.0.1:{port}", key=key) == [
        "s"
    ]  # the key goes beside them
    for there, kind in ((port, trustvlm.errors.Unauthorized), (9, trustvlm.Unavailable)):
        with pytest.raises(kind) as caught:
            spaces(f"http://me:secret@127.0.0.1:{there}", retries=0)
        assert "secret" not in str(caught.value)
    with recording(port) as proxy:
        assert spaces(
            "http://me:secret@service.example", key=key, proxy=f"http://127.0.0.1:{proxy.port}"
        ) == ["s"]
    assert b"authorization: basic bwu6c2vjcmv0" in proxy.headers[0].lower()


def test_the_keys_variable(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spaces(f"http://127.0.0.1:{port}") == ["s"]
    monkeypatch.setenv("TRUSTVLM_KEY", " \n")  # as good as not set
    with pytest.raises(trustvlm.errors.Unauthorized):
        spaces(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TRUSTVLM_KEY", "schlüssel")
    with pytest.raises(trustvlm.InvalidInput, match=r"^TRUSTVLM_KEY: expected the key") as caught:
        Client("http://127.0.0.1:9")
    assert "schl" not in str(caught.value)
