"""Damaging a home as a disk does: bytes of values through SQL, and bytes of files."""

from __future__ import annotations

from pathlib import Path

from raw_sql import run_sql


def flip_in_column(
    home: Path, table: str, column: str, row_id: int, place: int = 10, key: str = "id"
) -> None:
    """Flip the lowest bit of one byte of a stored vector."""
    ((value,),) = run_sql(home, f"SELECT {column} FROM {table} WHERE {key} = ?", row_id)
    assert isinstance(value, bytes)
    spoilt = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    run_sql(home, f"UPDATE {table} SET {column} = ? WHERE {key} = ?", spoilt, row_id)


def stored(home: Path, table: str, column: str, row_id: int, key: str = "id") -> bytes:
    ((value,),) = run_sql(home, f"SELECT {column} FROM {table} WHERE {key} = ?", row_id)
    assert isinstance(value, bytes)
    return value


def flip_in_file(path: Path, needle: bytes, place: int = 10) -> None:
    """Flip the lowest bit of one byte of a value where it lies in a file."""
    data = path.read_bytes()
    at = data.index(needle) + place
    flip_at(path, at)


def flip_at(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def settle(home: Path) -> None:
    """Move the write-ahead log into the catalog's file, so that every byte of it lies there."""
    run_sql(home, "PRAGMA wal_checkpoint(TRUNCATE)")
