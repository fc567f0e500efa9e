"""Proxies on loopback that note what is asked of them and lead every host to one port of this
machine."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """A proxy for HTTP (absolute addresses and CONNECT) and SOCKS 5; `asked`: the hosts, in
    order."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.asked: list[str] = []
        self.headers: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(
                    target=self._lead, args=(self._listener.accept()[0],), daemon=True
                ).start()

    def _lead(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
            suppress(OSError),
        ):
            begin = client.recv(65536)
            server.sendall(
                self._socks(client, begin) if begin[:1] == b"\x05" else self._http(client, begin)
            )
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join(10)

    def _http(self, client: socket.socket, head: bytes) -> bytes:
        """What to send on after the head of a request was read."""
        method, url, _ = head.split(b"\r\n", 1)[0].split(b" ")
        self.headers.append(head)
        if method == b"CONNECT":
            self.asked.append(url.decode().rsplit(":", 1)[0])
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            return b""
        host, _, path = url.removeprefix(b"http://").partition(b"/")
        self.asked.append(host.decode().rsplit(":", 1)[0])
        return head.replace(url, b"/" + path, 1)

    def _socks(self, client: socket.socket, greeting: bytes) -> bytes:
        client.sendall(b"\x05\x00")
        asked = client.recv(65536)
        assert asked[:4] == b"\x05\x01\x00\x03", asked  # connect, to a name
        self.asked.append(asked[5 : 5 + asked[4]].decode())
        client.sendall(b"\x05\x00\x00\x01" + struct.pack("!IH", 0, 0))
        return b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def recording(port: int) -> Iterator[Proxy]:
    """A proxy that leads to `port`."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
