"""Names of NumPy array types.

Conventions: larger similarity = more similar, larger trust = more trusted. Similarities are inner
products of unit vectors. Ids are int64; a missing neighbour has id −1, similarity −inf and label
None. Arrays inside, rows (plain dicts that JSON can hold) at the edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Float32s", "Float64s", "Floats", "Int64s", "Objects"]

Floats = npt.NDArray[np.floating[Any]]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]
