"""The demo's images: scikit-learn's handwritten digits, and crops of its photograph of a flower as
an eleventh label.

The digits are 1,797 real scans of 8 × 8 pixels (UCI ML, 43 writers); they are drawn here as dark
ink on paper. The photographs, flower.jpg and china.jpg, are CC BY 2.0 (flickr: vultilion
6056698931, danielbuechele 6061409035). Everything is deterministic: the split is a fixed
permutation within each label, chosen without looking at an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Scans = npt.NDArray[np.float64]

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""The ten label names; the position is the digit."""

ELEVENTH = "flower"
"""The label that the README registers after the demo has run."""

SUPPORTS = 16
"""Support images of each label."""

_TRAIN = 100
_SPLIT_SEED = 20250523
_SIZE = 64
_PAPER = np.array([250.0, 247.0, 239.0])
_INK = np.array([24.0, 30.0, 62.0])


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the digits: (n, 8, 8) scans with ink in [0, 1], and their digits (n,)."""

    scans: Scans
    digits: npt.NDArray[np.int64]


@cache
def digits_split() -> dict[str, Split]:
    """The three parts: `train` (the models saw only these), `support` (16 of each label) and
    `held-out` (the rest)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng(_SPLIT_SEED)
    rows: dict[str, list[npt.NDArray[np.int64]]] = {"support": [], "train": [], "held-out": []}
    for digit in range(len(LABELS)):
        order = rng.permutation(np.flatnonzero(data.target == digit))
        support, train, held_out = np.split(order, [SUPPORTS, SUPPORTS + _TRAIN])
        rows["support"].append(support)
        rows["train"].append(train)
        rows["held-out"].append(held_out)
    return {
        name: Split(data.images[index] / 16.0, data.target[index].astype(np.int64))
        for name, index in ((name, np.concatenate(parts)) for name, parts in rows.items())
    }


def draw(scan: Scans) -> Image.Image:
    """An 8 × 8 scan as a 64 × 64 picture of dark ink on paper, with a margin and crisp strokes."""
    cells = Image.fromarray(np.pad(scan, 1).astype(np.float32))
    ink = np.asarray(cells.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC), dtype=np.float64)
    low, ink, high = (1.0 / (1.0 + np.exp(-9.0 * (level - 0.45))) for level in (0.0, ink, 1.0))
    ink = np.clip((ink - low) / (high - low), 0.0, 1.0)[..., None]
    return Image.fromarray(np.rint(_PAPER + (_INK - _PAPER) * ink).astype(np.uint8))


_REGIONS = {  # left, upper, right, lower; no two regions of one photograph overlap
    ("flower", "train"): ("flower.jpg", (172, 100, 304, 346)),
    ("flower", "support"): ("flower.jpg", (306, 92, 438, 228)),
    ("flower", "held-out"): ("flower.jpg", (306, 230, 440, 350)),
    ("temple", "train"): ("china.jpg", (80, 60, 350, 330)),
}


def crops(label: str, part: str) -> list[Image.Image]:
    """64 × 64 crops of a photograph that scikit-learn ships, from a region of its own for each
    label and part.

    The flower's left half is for training; its upper right quarter is `support` and its lower right
    one `held-out`.
    """
    from sklearn.datasets import load_sample_image

    name, (left, upper, right, lower) = _REGIONS[label, part]
    photo = Image.fromarray(load_sample_image(name))
    side = _SIZE
    xs = np.linspace(left, right - side, 4).astype(int)
    ys = np.linspace(upper, lower - side, 4).astype(int)
    return [photo.crop((x, y, x + side, y + side)) for y in ys.tolist() for x in xs.tolist()]


def _pictures() -> Iterator[tuple[Path, Callable[[], Image.Image]]]:
    """Every file of :func:`write_images`: its path below the folder, and what draws it."""
    for part in ("support", "held-out"):
        split = digits_split()[part]
        for digit, label in enumerate(LABELS):
            for i, scan in enumerate(split.scans[split.digits == digit]):
                yield Path(part, label, f"{label}_{i:02d}.png"), partial(draw, scan)
    for part, folder in (("support", "eleventh"), ("held-out", "eleventh-held-out")):
        for i, crop in enumerate(crops(ELEVENTH, part)):
            yield Path(folder, ELEVENTH, f"{ELEVENTH}_{i:02d}.png"), crop.copy


def write_images(folder: Path) -> int:
    """Write the demo's images below `folder` as PNG files, one sub-folder a label; return how many
    were not there yet.

    ::

        support/<label>/<label>_00.png …       16 of each of the ten labels
        held-out/<label>/<label>_00.png …      the images to score
        eleventh/flower/flower_00.png …        16 support images of an eleventh label
        eleventh-held-out/flower/…             images of it to score

    Raises:
        OSError: a file cannot be written.
    """
    written = 0
    for name, picture in _pictures():
        path = folder / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: an interrupted run must not leave half a picture for the next
        # one to trip over.
        unfinished = path.with_suffix(".part")
        picture().save(unfinished, "PNG")
        unfinished.replace(path)
        written += 1
    return written


def label_images(folder: Path, label: str) -> list[Path]:
    """The PNG files of one label below one of the folders of :func:`write_images`, in order."""
    return sorted((folder / label).glob("*.png"))
