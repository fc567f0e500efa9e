"""What commands say of a review queue: how many wait, and what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trustvlm.cli.printing.safe_text import note
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.reading.review.queue import ReviewQueue


def waiting_in(queue: ReviewQueue) -> int:
    """How many items wait."""
    return sum(tray.open for tray in queue.status().trays)


def how_to_add(space: str) -> str:
    """How images come into the queue."""
    score = suggested("score", space, files="IMAGES", options="--review")
    return f"{score} adds images, {suggested('review on', space)} lets a service add what it scores"


def next_step(space: str, waiting: int) -> str:
    """What comes after an answer."""
    if waiting:
        return f"{count(waiting, 'item')} left; next: {suggested('review next', space)}"
    learn = suggested("recalibrate", space)
    return f"nothing waits any more; {learn} uses the answers of the tray sample"


def report_waiting(queue: ReviewQueue, space: str, before: int) -> None:
    """Say on stderr how many images a call has added to the queue where `before` waited, and what
    comes next."""
    waiting = waiting_in(queue)
    new = count(max(0, waiting - before), "image")
    said = f"{new} went into the review queue; {waiting:,} wait{'s' if waiting == 1 else ''} there"
    note(f"{said}; next: {suggested('review next', space)}" if waiting else said)
