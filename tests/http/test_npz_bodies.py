"""Arrays of .npz bodies: stored ones are taken without zipfile, and every damage is refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from trustvlm.errors import InvalidInput
from trustvlm.http.wire.npz import read_arrays

ARRAYS = {
    "classifier": np.arange(12, dtype=np.float32).reshape(3, 4),
    "verifier": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 2)),
    "truth": np.array(["a", "ü"]),
    "none": np.empty((0, 4), np.float32),
}


def saved(*, compressed: bool = False) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **ARRAYS)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("before", [b"", b"bytes that come before"])
@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_were_saved(compressed: bool, before: bytes) -> None:
    arrays = read_arrays(before + saved(compressed=compressed), 1_000)
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype
        assert array.flags.aligned


def test_every_flipped_byte_is_refused_or_changes_nothing() -> None:
    whole = saved()
    refused = 0
    for place in range(len(whole)):
        body = bytearray(whole)
        body[place] ^= 0x55
        try:
            arrays = read_arrays(bytes(body), 1_000)
        except InvalidInput:
            refused += 1
            continue
        same = [
            name in ARRAYS and np.array_equal(array, ARRAYS[name]) for name, array in arrays.items()
        ]
        assert all(same) or not set(arrays) <= set(ARRAYS), place  # only the name has no sum
    assert refused > len(whole) / 2


def test_a_member_whose_own_name_differs_is_refused() -> None:
    body = saved().replace(b"PK\x03\x04", b"PK\x03\x05", 1)
    with pytest.raises(InvalidInput, match=r"expected arrays saved with numpy\.savez"):
        read_arrays(body, 1_000)
    own = saved().replace(b"classifier.npy", b"klassifier.npy", 1)  # in front of its bytes
    assert zipfile.ZipFile(io.BytesIO(own)).namelist()[0] == "classifier.npy"
    with pytest.raises(InvalidInput, match=r"expected arrays saved with numpy\.savez"):
        read_arrays(own, 1_000)
