"""Bodies that are compressed with gzip: requests are unpacked piece by piece, so that a small body
that unpacks to gigabytes is refused at the limit."""

from __future__ import annotations

import zlib

from trustvlm.errors import InvalidInput, TooLarge, UnsupportedType

_GZIP = 16 + zlib.MAX_WBITS  # a header of gzip, no other one


def unpacking(coding: str, most: int) -> Unpacked | None:
    """What unpacks a request with this header Content-Encoding to at most `most` bytes; None: the
    body is as it is.

    Raises:
        UnsupportedType: another coding than gzip.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return Unpacked(most)
    raise UnsupportedType(
        f"content-encoding: expected gzip or none, got {coding[:80]!r}; send the body as it is"
    )


class Unpacked:
    """A body that arrives compressed: one or more members of gzip."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def piece(self, data: bytes, *, last: bool) -> bytes:
        """The next bytes of the body, which is complete with the `last` of them.

        Raises:
            InvalidInput: this is no gzip, or its end is missing. TooLarge: it unpacks to more bytes
                than a body may have.
        """
        parts = []
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                part = self._member.decompress(data, self._most - self._size + 1)
            except zlib.error as error:
                raise InvalidInput(f"body: expected gzip, as its header says ({error})") from error
            self._size += len(part)
            if self._size > self._most:
                raise TooLarge(
                    f"the body unpacks to more than {self._most} bytes, the limit (setting "
                    f"serve_body_bytes)"
                )
            parts.append(part)
            data = self._member.unused_data or self._member.unconsumed_tail
        if last and self._begun and not self._member.eof:
            raise InvalidInput("body: expected gzip, as its header says; its end is missing")
        return b"".join(parts)
