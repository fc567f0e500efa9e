"""Support images that are proposed from images without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.types.json_form import Answer, HasRows, Object
from trustvlm.types.options import Options, WholeNumber, Within, says
from trustvlm.types.registration import UnreadImage


@dataclass(frozen=True, kw_only=True)
class ProposeOptions(Options):
    """What becomes of proposed support images."""

    accept: Annotated[bool, says("make them support images at once, marked as proposed")] = False
    review: Annotated[bool, says("put them into the review queue, tray proposal")] = False
    few: Annotated[WholeNumber, Within("k"), says("propose for labels with fewer images")] = 4


@dataclass(frozen=True, repr=False)
class RemovedProposals(Answer):
    """Proposed support images that were removed: the space's revision, and their ids."""

    revision: int
    ids: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Proposal(Answer):
    """An image that is proposed as a support image.

    Attributes:
        place: among the images of the call. source: its name, where it has one.
        label: the label that it is proposed for. probability: that the label is right.
        neighbours: how many of its nearest images of the call get the same label.
        support_id: the support image that it became; None: it was not accepted.
    """

    place: int
    source: str | None
    label: str
    probability: float
    neighbours: int
    support_id: int | None = None


@dataclass(frozen=True, repr=False)
class Proposals(HasRows[Proposal], Answer):
    """Proposed support images, by label and probability. It has the length, items and order of
    `rows`.

    Attributes:
        space, revision: what they were chosen with.
        images: images of the call that were looked at. unknown: those that are unlike every support
            image, which are left out; None: the space has too few support images to tell.
        registered: images that are support images. labelled: images whose true label is stored
            (calibration, feedback): these are left out too, so that they can go on testifying.
        labels: labels that have fewer support images than `few`. served: how many of them get
            proposals.
        queued: how many proposals were put into the review queue.
        rows: the proposals. notes, failures: what was done to read images; those that could not be.
    """

    space: str
    revision: int
    images: int
    unknown: int | None
    registered: int
    labelled: int
    few: int
    labels: int
    served: int
    queued: int
    rows: tuple[Proposal, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[Annotated[UnreadImage, Object()], ...] = ()
