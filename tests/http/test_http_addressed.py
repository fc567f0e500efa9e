"""What comes over the wire as no client should send it: Host, Origin, HEAD, types and encodings;
and a proxy in between."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from http_service import Http, served
from server_process import ready, server

import trustvlm
from trustvlm.client import Client
from trustvlm.errors import InvalidInput
from trustvlm.http.options import ServeOptions

NAMES = [
    "plain",
    "a/b",
    "a/supports",
    "/",
    "a?b",
    "a#b",
    "a%b",
    "%2F",
    "a b",
    "a+b&c=d",
    "..",
    ".",
    "../x",
    "ü/ß",
    "a\\b",
    ";:@",
]
BODY = {"classifier": [[1.0, 0.0, 0.0, 0.0]], "rule": "msp"}


def prepared(home: Path) -> None:
    with trustvlm.open(home, create=True) as service:
        for space in ("s", "..", "s ? # % ü"):
            service.create_space(space, classifier="precomputed:4")
            service.register(
                space,
                [trustvlm.LabelInput("one", text_vector=np.ones(4), image_vectors=np.ones((1, 4)))],
            )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("addressed") / "home"
    prepared(home)
    with server(home) as (_, address):
        ready(address)
        yield address


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    home = tmp_path_factory.mktemp("addressed") / "http"
    prepared(home)
    with served(home) as http:
        yield http


def sent(address: str, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to raw bytes."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


HOSTS = [
    b"", b" ", b"a b", b"\x01", b"\x7f", b"h\xc3\xb6st", b"[::1", b"::1]", b"[]", b"[zz]",
    b"127.0.0.1:99999", b"127.0.0.1:-1",
    b"127.0.0.1:8x", b"user:secret@127.0.0.1", b"127.0.0.1/x", b"127.0.0.1#", b"http://127.0.0.1",
    b"127.0.0.1,127.0.0.1",
    b"a" * 300, b"%31", b"example.com", b"127.0.0.1.example.com", b"[::1]x", b"[fe80::1%25eth0]",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_a_host_that_is_none(address: str, host: bytes) -> None:
    for path in (b"/healthz", b"/v1/spaces"):
        status, body = sent(
            address, b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host)
        )
        assert status in (400, 403, 422), body
        assert set(json.loads(body)["error"]) == {"kind", "message", "request_id"}


def test_hosts_that_are_taken(address: str) -> None:
    port = urlsplit(address).port
    for host in (
        "127.0.0.1",
        f"127.0.0.1:{port}",
        "localhost",
        "LOCALHOST:1",
        "[::1]",
        "[::1]:80",
        "127.0.0.2",
        "127.0.0.1:",
    ):
        data = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        assert sent(address, data)[0] == 200, host


@pytest.mark.parametrize("head", [
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: "
    b"localhost\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n",
    b"\x16\x03\x01\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    b"POST /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: "
    b"1\r\nContent-Length: 2\r\n\r\n",
    b"POST /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /v1/rules HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
    b"text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: "
    b"http://127.0.0.1\r\nConnection: close\r\n\r\n",
], ids=range(11))  # fmt: skip
def test_what_is_no_request(address: str, head: bytes) -> None:
    status, body = sent(address, head)
    assert status in (400, 403, 422), body
    assert set(json.loads(body)["error"]) == {"kind", "message", "request_id"}


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/v1/spaces", 403)]
)
def test_probes_of_http_1_0_need_no_host(address: str, path: str, status: int) -> None:
    """As balancers send them."""
    assert sent(address, f"GET {path} HTTP/1.0\r\n\r\n".encode())[0] == status


def test_a_name_of_another_machine_is_told_what_to_do(address: str) -> None:
    data = b"GET /v1/spaces HTTP/1.1\r\nHost: trust.example\r\nConnection: close\r\n\r\n"
    status, body = sent(address, data)
    assert status == 403
    assert "--require-key" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("site", "destination", "status"),
    [
        ("cross-site", "image", 403),
        ("same-site", "iframe", 403),
        ("cross-site", "empty", 403),
        ("cross-site", "document", 200),
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ],
)
def test_a_page_of_another_site_embeds_nothing(
    address: str, site: str, destination: str, status: int
) -> None:
    """Images, scripts and frames of a page bring no Origin; the browser says whose they are."""
    fetched = f"Sec-Fetch-Site: {site}\r\nSec-Fetch-Dest: {destination}\r\n"
    head = f"GET /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\n{fetched}Connection: close\r\n\r\n"
    assert sent(address, head.encode())[0] == status


LONG = b"a" * 70_000
START = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = (
    b"POST /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n"
)


@pytest.mark.parametrize("head", [
    START + b"X: " + LONG + b"\r\n\r\n", START + b"X: " + LONG, START + b"X: b\r\n" * 20_000 + b"\r\n",
    b"GET /" + LONG + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    START[:-2] + b"\n\n", START.replace(b"1.1", b"2.0", 1) + b"\r\n",
    START + b"X: a\rb\r\n\r\n", START + b"X: a\0b\r\n\r\n",
    CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
], ids=range(9))  # fmt: skip
def test_heads_that_are_refused(address: str, head: bytes) -> None:
    """Too long ones, and those that servers read in different ways."""
    status, body = sent(address, head)
    expected = (431, "TooLarge") if len(head) > 65_536 else (400, "InvalidInput")
    assert (status, json.loads(body)["error"]["kind"]) == expected, body


def test_a_long_head_that_is_read(address: str) -> None:
    data = START + b"Connection: close\r\nX: " + LONG[:60_000] + b"\r\n\r\n"
    assert sent(address, data)[0] == 200


@pytest.mark.parametrize("endless", [b"2\r\n{}\r\n0\r\nX: ", b"2;"], ids=["trailer", "extension"])
def test_what_comes_between_pieces_of_a_body_is_bounded(address: str, endless: bytes) -> None:
    where = urlsplit(address)

    def send(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + b"\r\n" + endless)
        for _ in range(400):  # 4 MB, where 64 KiB are the limit
            connection.sendall(b"a" * 10_000)
            time.sleep(0.001)

    with (
        socket.create_connection((where.hostname, where.port), timeout=20) as connection,
        pytest.raises(ConnectionError),
    ):
        send(connection)


def test_a_field_behind_a_body_is_no_header(address: str) -> None:
    """Where proxies take them from requests, nothing they were asked to remove comes through."""
    data = CHUNKED + b"Connection: close\r\n\r\n2\r\n{}\r\n0\r\nX-Request-ID: late\r\n\r\n"
    status, body = sent(address, data)
    assert status == 422
    assert json.loads(body)["error"]["request_id"] != "late"


def test_a_request_that_would_change_the_protocol(address: str) -> None:
    """It is answered in HTTP/1.1, and the connection ends."""
    for kind in (b"h2c", b"websocket"):
        data = START + b"Connection: Upgrade\r\nUpgrade: " + kind + b"\r\n\r\n"
        assert sent(address, data) == (200, b'{"status":"ok"}')


def test_requests_in_one_go(address: str) -> None:
    """Each is answered in turn; one that is none ends the connection behind the answers."""
    data = START + b"\r\n" + START + b"Connection: close\r\n\r\n"
    assert sent(address, data)[1].count(b'{"status":"ok"}') == 2
    status, body = sent(address, START + b"\r\nNOTHING\r\n\r\n")
    assert status == 200
    assert body == b'{"status":"ok"}'


@pytest.mark.parametrize("origin", [
    b"", b"null", b"http://[::1", b"http://evil.example", b"http://127.0.0.1@evil.example", b"http://127.0.0.1:99999",
    b"127.0.0.1",
    b"file://127.0.0.1", b"http://127.0.0.1/", b"http://127.0.0.1 "
                                               b",x", b"\x80", b"http://h\xc3\xb6st",
], ids=repr)  # fmt: skip
def test_an_origin_of_another_site_or_none(address: str, origin: bytes) -> None:
    head = (
        b"GET /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: %s\r\nConnection: close\r\n\r\n"
        % origin
    )
    status, body = sent(address, head)
    assert status in (400, 403), body


def test_the_origin_of_its_own_page(address: str) -> None:
    for origin in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
        head = (
            f"GET /v1/spaces HTTP/1.1\r\nHost: 127.0.0.1:1\r\nOrigin: "
            f"{origin}\r\nConnection: close\r\n\r\n"
        )
        assert sent(address, head.encode())[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/",
        "/metrics",
        "/static/app.js",
        "/v1/spaces",
        "/v1/spaces/s",
        "/openapi.json",
    ],
)
def test_head_is_get_without_a_body(address: str, path: str) -> None:
    """Over a real connection: what would follow a body that must not be there breaks the next
    answer."""
    with httpx.Client(base_url=address, timeout=60) as client:
        head, get = client.head(path), client.get(path)
        assert (head.status_code, get.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":  # which counts the first of the two
            assert head.headers["content-length"] == get.headers["content-length"]
        assert client.head("/v1/spaces/none").status_code == 404
        assert client.head("/v1/spaces/s/score").status_code == 405


def test_types_and_encodings_that_are_not_read(http: Http) -> None:
    plain, packed = json.dumps(BODY).encode(), gzip.compress(json.dumps(BODY).encode())
    score = "/v1/spaces/s/score"
    for headers, content in (
        ({"content-type": "text/plain"}, plain), ({"content-type": "application/jsonx"}, plain),
        ({"content-type": ""}, plain),
        ({}, plain),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=b"),
        ({"content-type": "application/json; charset=utf-16"}, plain),
        ({"content-type": 'application/json; charset="latin-1"'}, plain),
        ({"content-type": "multipart/form-data; boundary=x; charset=nix"}, plain),
        ({"content-type": "application/json", "content-encoding": "br"}, plain),
        ({"content-type": "application/json", "content-encoding": "identity, gzip"}, packed),
        ([("content-type", "application/json"), ("content-type", "text/plain")], plain),
    ):  # fmt: skip
        refused = http.ask("POST", score, status=415, content=content, headers=headers)
        assert refused.json()["error"]["kind"] == "UnsupportedType", refused.text
    for kind in (
        "application/json",
        "APPLICATION/JSON; charset=UTF-8",
        "application/json;charset=utf-8",
        'application/json; charset="utf-8"',
    ):
        http.ask(
            "POST",
            score,
            content=plain,
            headers={"content-type": kind, "content-encoding": "identity"},
        )
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="',
        "multipart/form-data; boundary=x",
    ):
        for content in (b"", plain, b"--x\r\n\r\n--x--"):
            http.ask("POST", score, status=422, content=content, headers={"content-type": kind})
    for kind in ("application/x-ndjson", "text/csv", ""):
        http.ask(
            "POST",
            "/v1/spaces/s/labels",
            status=415,
            content=b"{}\n",
            headers={"content-type": kind},
        )


def test_a_second_header_for_the_key(tmp_path: Path) -> None:
    with served(tmp_path / "home", require_key=True) as http:
        _, key = http.serving.home.create_key("admin")
        for headers, status in (
            ({"x-api-key": key}, 200), ({"x-api-key": key,
            "authorization": "Basic cHJveHk6cHJveHk="}, 200),
            ({"authorization": f"Bearer {key}"}, 200),
            ({"x-api-key": ""}, 401), ({"x-api-key": key + "x"}, 401),
            ({"x-api-key": f"Bearer {key}"}, 401),
            ({"x-api-key": "none", "authorization": f"Bearer {key}"}, 401), ({}, 401),
        ):  # fmt: skip
            http.ask("GET", "/v1/spaces", status=status, headers=headers)
        schemes = http.ask("GET", "/openapi.json").json()["components"]["securitySchemes"]
        assert schemes["header"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}


def test_a_path_of_its_own(tmp_path: Path) -> None:
    """Whether the proxy takes it off or not."""
    home = tmp_path / "home"
    prepared(home)
    with served(home, root_path="/trust/") as http:
        for prefix in ("/trust", ""):
            assert http("GET", f"{prefix}/v1/spaces")["spaces"]
            assert "static/app.js" in http.ask("GET", f"{prefix}/").text
            http.ask("GET", f"{prefix}/static/app.js")
        assert http.ask("GET", "/trust", status=307).headers["location"] == "/trust/"
        http.ask("GET", "/trustx/v1/spaces", status=404)
        assert http.ask("GET", "/trust/openapi.json").json()["servers"] == [{"url": "/trust"}]
    for path in ("trust", "//", "/a b", "/../x", "/v1", "/static/x", "/x?", "/ü", "/a//b"):
        if path != "//":
            with pytest.raises(InvalidInput, match="root_path: expected a path"):
                ServeOptions(root_path=path)


def test_the_page_asks_for_nothing_by_an_absolute_address() -> None:
    static = Path(trustvlm.__file__).parent / "http" / "static"
    for file in [*static.rglob("*.js"), static / "index.html"]:
        text = file.read_text(encoding="utf-8")
        for absolute in ('"/v1', "'/v1", "`/v1", '"/static', '"/openapi', 'href="/', 'src="/'):
            assert absolute not in text, f"{file.name}: {absolute}"


SOME = ["a/b", "/", "a?b", "%2F", "..", "ü/ß"]


def everything(client: Client, space: str, names: list[str]) -> None:
    """Each name through the client: registered, scored with, shown, changed, removed."""
    rng = np.random.default_rng(0)
    client.register(
        space,
        [
            trustvlm.LabelInput(
                name, text_vector=rng.normal(size=4), image_vectors=rng.normal(size=(1, 4))
            )
            for name in names
        ],
    )
    for name in names:
        added = client.add_support(space, name, image_vectors=rng.normal(size=(1, 4)))
        assert added.added_supports == 1
        assert len(client.list_supports(space, name)) == 2, name
        client.update_label(space, name, new_name=f"{name}'")
        client.update_label(space, f"{name}'", new_name=name)
        client.remove_label(space, name)
        client.restore_label(space, name)
    assert {row.name for row in client.list_labels(space)} >= {*names}
    queries = trustvlm.Queries(np.ones((1, 4)))
    assert client.score(space, queries, labels=names, rule="msp").label[0] in names
    for name in names:
        client.remove_label(space, name, purge=True)


@pytest.mark.parametrize(
    ("space", "names"), [pytest.param("..", NAMES, marks=pytest.mark.slow), ("s ? # % ü", SOME[:2])]
)
def test_names_of_every_kind(address: str, space: str, names: list[str]) -> None:
    with Client(address) as client:
        everything(client, space, names)


def test_names_of_dots_as_a_browser_sends_them(address: str) -> None:
    """What the page makes of them survives the steps that a browser takes out of a path."""
    with httpx.Client(base_url=address, timeout=60) as client:
        for path in ("/v1/spaces/..%1F", "/v1/spaces/..%1F/labels/one", "/v1/spaces/..%1f/labels"):
            assert client.get(path).status_code == 200, path


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PROXIES = {
    "kept": "location /trust/ {{ proxy_pass http://{upstream}; }}",
    "taken off": "location /trust/ {{ proxy_pass http://{upstream}$rest; }}",
    "at the root": "location / {{ proxy_pass http://{upstream}; }}",
}


@contextmanager
def proxied(folder: Path, upstream: str, location: str) -> Iterator[str]:
    """A real nginx in front of a service; its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; "
        f"events {{}}\n"
        f"http {{ access_log off; {temporary} client_max_body_size 32m; map $request_uri $rest {{ ~^/trust(/.*)$ $1; }}\n"
        f"server {{ listen 127.0.0.1:{port};\n"
        f"proxy_set_header Host $http_host; proxy_http_version 1.1; "
        f"{location.format(upstream=upstream)} }} }}\n"
    )
    assert NGINX is not None
    process = subprocess.Popen(
        [
            NGINX,
            "-c",
            str(folder / "nginx.conf"),
            "-p",
            str(folder),
            "-e",
            str(folder / "error.log"),
        ]
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize(
    "kind",
    [
        "kept",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("taken off", "at the root")),
    ],
)
def test_behind_nginx(tmp_path: Path, kind: str) -> None:
    """The page, its files, and names of every kind, through a path that the proxy takes off, or
    leaves, or has not."""
    home = tmp_path / "home"
    prepared(home)
    root = "" if kind == "at the root" else "/trust"
    with (
        server(home, *(["--root-path", root] if root else [])) as (_, address),
        proxied(tmp_path / "nginx", urlsplit(address).netloc, PROXIES[kind]) as outside,
        httpx.Client(
            base_url=f"{outside}{root}/", headers={"origin": outside}, timeout=60
        ) as browser,
    ):
        ready(address)
        page = browser.get("")
        assert page.status_code == 200
        for file in ("static/app.js", "static/style.css", "v1/spaces", "openapi.json", "healthz"):
            assert browser.get(file).status_code == 200, file
        assert httpx.get(f"{outside}{root}", follow_redirects=True, timeout=60).text == page.text
        with Client(f"{outside}{root}") as client:
            everything(client, "..", SOME)
        assert browser.get(f"v1/spaces/{quote('s ? # % ü')}/labels/one").json()["name"] == "one"
