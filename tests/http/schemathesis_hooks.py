"""Lets schemathesis send the bodies that it does not know, .npz files, as bytes."""

import schemathesis


@schemathesis.serializer("application/x-npz")  # type: ignore[untyped-decorator]
def as_bytes(context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
