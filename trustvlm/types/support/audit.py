"""What an audit says of labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from trustvlm.types.json_form import Answer, HasRows, Object
from trustvlm.types.registration import UnreadImage


@dataclass(frozen=True, repr=False)
class AuditRow(Answer):
    """A labelled image as an audit judges it.

    Attributes:
        id: of the support image; None: the image is not registered. place: of the image among the
            queries of the call; None: it was not among them.
        label: its label. source: its name, where it has one. pictured: it has a thumbnail.
        suspicion: −log of the probability that its label is right, in nats, the image itself left
            out of its label. probability: that probability.
        looks_like: the most likely other label, and looks_like_probability.
        flagged: the suspicion is above log 20, and no person kept the image.
        kept: a person said that it is right. proposed: it was chosen from images without labels.
        judged_by: what takes part: "text and image", or "image" where no classifier embedding is
            stored.
    """

    id: int | None
    place: int | None
    label: str
    source: str | None
    pictured: bool
    suspicion: float
    probability: float
    looks_like: str
    looks_like_probability: float
    flagged: bool
    kept: bool
    proposed: bool
    judged_by: Literal["text and image", "image"]


@dataclass(frozen=True, repr=False)
class Audit(HasRows[AuditRow], Answer):
    """Labelled images, the most suspicious first. It has the length, items and order of `rows`.

    Attributes:
        space, revision: what was judged with.
        images: labelled images that were looked at. judged: how many of them can be judged.
        alone: images whose label has no other image to compare with. unlabelled: images of the call
            that are of no label.
        flagged: how many are flagged. kept: how many more would be, had no person kept them.
        wrong_share: estimated share of wrong labels among the judged images; None: none is judged.
        precision: estimated share of flagged images whose label is wrong; None: none is flagged.
        without_text: judged images without a classifier embedding: the image alone judges them,
            which finds half as many of those that look like a similar label.
        evidence: "whitened" or "cosine", as of the rule `lda`; "off": the images do not tell the
            labels apart, so that none is judged; "one image": no label has two; "none": fewer than
            two labels have images.
        rows: the judged images. next_cursor: gives the next page; None: there is none.
        notes, failures: of images of the call: what was done to read them; those that could not be.
    """

    space: str
    revision: int
    images: int
    judged: int
    alone: int
    unlabelled: int
    flagged: int
    kept: int
    wrong_share: float | None
    precision: float | None
    without_text: int
    evidence: Literal["whitened", "cosine", "one image", "off", "none"]
    rows: tuple[AuditRow, ...]
    next_cursor: int | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[Annotated[UnreadImage, Object()], ...] = ()


@dataclass(frozen=True, repr=False)
class MovedSupports(Answer):
    """Support images that got another label: the space's revision, and their new ids, in the order
    of the call."""

    revision: int
    ids: tuple[int, ...]
