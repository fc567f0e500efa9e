"""Homes for tests of the page: spaces whose labels have names that break pages, and images in the clipboard."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

import trustvlm

LONG = "a very long label name that somebody exported from a catalogue without a thought of whoever has to read it " * 2
NAMES = [
    LONG.strip()[:200],
    "tools/hand/hammer & sons",
    "<b>\"bold\"</b> 'label'",
    "🦊🦊 fox family 👩‍👩‍👧",
    "كلب صغير (שלום)",
    "unbroken" * 20,
    "plain",
]
BARE = "never seen"
"""The label without support images."""

DIM = len(NAMES) + 1

_TRANSFER = """
([kind, images]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of images) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  const target = kind === "paste" ? document : document.querySelector(".dropzone");
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  target.dispatchEvent(event);
}
"""


def vectors(home: Path) -> None:
    """A home with the space "vectors", of embeddings, one axis a label."""
    with trustvlm.open(home, create=True) as service:
        axes = np.eye(DIM)
        service.create_space("vectors", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}", logit_scale=5.0)
        service.register(
            "vectors",
            [
                trustvlm.LabelInput(name, text_vector=axes[i], image_vectors=[axes[i] + 0.1, axes[i] + 0.2])
                for i, name in enumerate(NAMES)
            ],
        )
        service.register("vectors", [trustvlm.LabelInput(BARE, text_vector=axes[-1])])


def embedding(label: int, other: int = -2, weight: float = 0.6) -> list[float]:
    """An embedding on the axis of a label, and a little on another's."""
    axes = np.eye(DIM)
    found: list[float] = (axes[label] + weight * axes[other]).round(3).tolist()
    return found


def give(page: object, kind: str, *paths: Path) -> None:
    """Drop or paste image files."""
    images = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    page.evaluate(_TRANSFER, [kind, images])  # type: ignore[attr-defined]
