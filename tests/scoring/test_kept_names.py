"""The labels that stand for all others (smallest name hashes) are kept up as labels come and go:
the result equals reading them again, after any changes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from worlds import World, make_space

import trustvlm
from trustvlm import LabelInput
from trustvlm.service.memory.support_fit import (
    SmallestNames,
    SpaceChanges,
    current_fit,
    smallest_names,
)
from trustvlm.types.thresholds import Thresholds


class Changes:
    """Random changes of a space, any of them at any time."""

    def __init__(self, service: trustvlm.TrustService, world: World, seed: int) -> None:
        self._service, self._world = service, world
        self._rng = np.random.default_rng(seed)
        self._removed: set[str] = set()

    def step(self) -> None:
        """One change; none where the space does not allow it."""
        kinds = [self._register, self._register, self._remove, self._restore, self._image]
        kinds += [self._no_image, self._alias, self._unalias, self._rename]
        with suppress(trustvlm.Conflict, trustvlm.NotFound):
            kinds[int(self._rng.integers(len(kinds)))](int(self._rng.integers(40)))

    def _register(self, i: int) -> None:
        images = int(self._rng.integers(0, 3))
        vectors = self._world.supports(i, images) if images else None
        label = LabelInput(f"label {i}", self._world.text[i], image_vectors=vectors)
        self._service.register("s", [label])
        self._removed.discard(f"label {i}")

    def _remove(self, i: int) -> None:
        self._service.remove_label("s", f"label {i}", purge=bool(self._rng.random() < 0.3))
        self._removed.add(f"label {i}")

    def _restore(self, _: int) -> None:
        for name in sorted(self._removed)[:1]:
            self._removed.discard(name)
            self._service.restore_label("s", name)

    def _image(self, i: int) -> None:
        vectors = self._world.supports(i, 1)
        self._service.add_support("s", f"label {i}", image_vectors=vectors)

    def _no_image(self, i: int) -> None:
        rows = self._service.list_supports("s", f"label {i}")
        self._service.remove_support("s", [row.id for row in rows])

    def _alias(self, i: int) -> None:
        self._service.alias("s", f"label {i}", f"label {(i + 7) % 40}")

    def _unalias(self, i: int) -> None:
        self._service.unalias("s", f"label {i}")

    def _rename(self, i: int) -> None:
        self._service.update_label("s", f"label {i}", new_name=f"label {i + 40}")


@pytest.mark.parametrize(
    ("most", "seed"),
    [(4, 1), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((10, 2), (1_000, 3)))],
)
def test_kept_names_are_those_that_are_read_again(tmp_path: Path, most: int, seed: int) -> None:
    world = World([f"label {i}" for i in range(40)], seed)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(1)[:30])
        changes, kept = Changes(service, world, seed), None
        followed = 0
        for step in range(60):
            changes.step()
            if step % 3 == 1:  # several changes in between
                continue
            with service._home.snapshot("s") as reading:
                since = SpaceChanges(reading.connection, reading.view.space)
                fresh = smallest_names(since, None, most)
                now: SmallestNames = smallest_names(since, kept, most)
            np.testing.assert_array_equal(now.ids, fresh.ids)
            np.testing.assert_array_equal(now.hashes, fresh.hashes)
            followed += kept is not None and now.ids is kept.ids
            kept = now
        assert followed  # some changes left it as it was


def test_prototypes_that_stand_for_others_are_those_that_are_read_again(tmp_path: Path) -> None:
    """Whether a change reaches a label among them or not."""
    world = World([f"label {i}" for i in range(40)], 4)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(1)[:30])
        changes, memo = Changes(service, world, 5), None
        for _ in range(40):
            changes.step()
            with service._home.snapshot("s") as reading:
                view, thresholds = reading.view, Thresholds()
                memo = current_fit(reading.connection, view, memo, thresholds)
                fresh = current_fit(reading.connection, view, None, thresholds)
            np.testing.assert_array_equal(memo.background, fresh.background)
