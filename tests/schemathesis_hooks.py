"""Lets schemathesis send the two bodies that it does not know: lines of JSON, and .npz files (as bytes)."""

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/x-npz")  # type: ignore[untyped-decorator]
def as_bytes(context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
