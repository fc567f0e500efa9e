"""Lets schemathesis send the bodies that it does not know, as bytes: lines of JSON, .npz and
Parquet files."""

import schemathesis


@schemathesis.serializer(
    "application/x-ndjson", "application/x-npz", "application/vnd.apache.parquet"
)  # type: ignore[untyped-decorator]
def as_bytes(context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
