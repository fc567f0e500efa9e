"""What tests of the page share: a home whose labels have names that break pages, images in the
clipboard, pictures."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy as np
from browsing import Browsing

import trustvlm

LONG = (
    "a very long label name that somebody exported from a catalogue without a thought "
    "of whoever has to read it " * 2
)
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
        service.create_space(
            "vectors",
            classifier=f"precomputed:{DIM}",
            verifier=f"precomputed:{DIM}",
            logit_scale=5.0,
        )
        service.register(
            "vectors",
            [
                trustvlm.LabelInput(
                    name, text_vector=axes[i], image_vectors=[axes[i] + 0.1, axes[i] + 0.2]
                )
                for i, name in enumerate(NAMES)
            ],
        )
        service.register("vectors", [trustvlm.LabelInput(BARE, text_vector=axes[-1])])


def embedding(label: int, other: int = -2, weight: float = 0.6) -> list[float]:
    """An embedding on the axis of a label, and a little on another's."""
    axes = np.eye(DIM)
    found: list[float] = (axes[label] + weight * axes[other]).round(3).tolist()
    return found


def give(seen: Browsing, kind: str, *paths: Path) -> None:
    """Drop or paste image files."""
    images = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    seen.page.evaluate(_TRANSFER, [kind, images])


LOADED = """
async () => {
  document.activeElement.blur();
  scrollTo(0, 0);
  const images = [...document.querySelectorAll("main img")];
  for (const image of images) image.loading = "eager";
  const ready = (image) => image.complete || new Promise((done) => { image.onload = image.onerror = done; });
  await Promise.race([Promise.all(images.map(ready)), new Promise((late) => setTimeout(late, 3000))]);
}
"""


def picture(seen: Browsing, name: str) -> None:
    """Take a picture from the top of the page after its images have loaded, if the environment
    variable TRUSTVLM_SHOTS is set."""
    if os.environ.get("TRUSTVLM_SHOTS"):
        seen.page.evaluate(LOADED)
        seen.shot(name)


def copied_text(seen: Browsing, button: str) -> str:
    """What a button puts into the clipboard."""
    seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    seen.page.get_by_role("button", name=button).click()
    seen.page.locator(".notice").last.wait_for()
    found: str = seen.page.evaluate("navigator.clipboard.readText()")
    return found


def sideways(seen: Browsing) -> int:
    """By how much the page is wider than the window."""
    found: int = seen.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return found
