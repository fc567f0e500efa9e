"""A TCP relay on this machine that breaks connections as it is told: a real line between a client
and a server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

_PIECE = 16 * 1024


class Relay:
    """Hands bytes on to a port of this machine.

    Attributes:
        break_after: of each connection that sends labels, the number of bytes after which it is
            reset; None: never.
        cut_answers: so many answers are not handed on: the connection is reset when their first
            byte comes.
        cut_only: only of requests whose head holds this.
        refuse_after: when a connection was broken, no further one is taken.
        broken: connections that were broken. sent: bytes that each connection sent.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.break_after: list[int | None] = []
        self.cut_answers, self.cut_only, self.refuse_after = 0, b"", False
        self.broken, self.sent = 0, list[int]()
        self._guard = threading.Lock()
        self._lines: list[_Line] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Relay:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # it may have been shut down before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            if self.refuse_after and self.broken:
                reset(client)
                continue
            line = _Line(self, client, socket.create_connection(("127.0.0.1", self._port)))
            self._lines.append(line)

    def broke(self) -> None:
        """A connection was broken; with it, where none is to be taken any more, all the others."""
        with self._guard:
            self.broken += 1
        for line in self._lines if self.refuse_after else ():
            line.reset()


class _Line:
    """One connection."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self.relay, self.client, self.server = relay, client, server
        self.head = b""
        self.total = 0
        self.limit: int | None = None
        self.registering = False
        for work in (self.up, self.down):
            threading.Thread(target=work, daemon=True).start()

    def up(self) -> None:
        with suppress(OSError):  # the other direction has broken the connection
            while piece := self.client.recv(_PIECE):
                self.head = piece[:300] if b" HTTP/1.1\r\n" in piece[:300] else self.head
                if b"/labels " in self.head and not self.registering:
                    self.registering = True
                    self.limit = self.relay.break_after.pop(0) if self.relay.break_after else None
                self.total += len(piece)
                if self.limit is not None and self.total > self.limit:
                    self.relay.broke()
                    self.reset()
                    break
                self.server.sendall(piece)
        self.relay.sent.append(self.total)
        self.close()

    def down(self) -> None:
        with suppress(OSError):
            while piece := self.server.recv(_PIECE):
                if self.relay.cut_answers and self.relay.cut_only in self.head:
                    self.relay.cut_answers -= 1
                    self.relay.broke()
                    self.reset()
                    return
                self.client.sendall(piece)
        self.close()

    def reset(self) -> None:
        reset(self.client)
        reset(self.server)

    def close(self) -> None:
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def reset(connection: socket.socket) -> None:
    """End a connection as a crash does: with RST."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
