"""`trustvlm propose`: support images for labels that have none or few, from unlabelled ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trustvlm
from tests.support.cli_runner import Cli

LABELS, DIM, EACH = 8, 32, 30
NAMES = [f"label {i}" for i in range(LABELS)]


class Pool:
    """Unlabelled images: `EACH` of every label, and some of none."""

    def __init__(self, strange: int = 30) -> None:
        rng = np.random.default_rng(5)
        self.text, centres = rng.normal(size=(LABELS, DIM)), rng.normal(size=(LABELS, DIM))
        self.truth = np.concatenate([np.repeat(np.arange(LABELS), EACH), np.full(strange, -1)])
        odd = self.truth < 0
        noise = rng.normal(size=(2, len(self.truth), DIM))
        self.classifier = self.text[self.truth] + 1.2 * noise[0]
        self.verifier = centres[self.truth] + 0.5 * noise[1]
        self.classifier[odd] = rng.normal(size=(odd.sum(), DIM)) + 0.3 * self.text[0]
        self.verifier[odd] = rng.normal(size=(odd.sum(), DIM))
        self.supports = centres[:, None] + 0.5 * rng.normal(size=(LABELS, 6, DIM))
        self.supports_text = self.text[:, None] + 1.2 * rng.normal(size=(LABELS, 6, DIM))

    @property
    def queries(self) -> trustvlm.Queries:
        return trustvlm.Queries(self.classifier, self.verifier)

    def open(self, home: Path, shots: list[int]) -> trustvlm.TrustService:
        service = trustvlm.open(home, create=True)
        service.create_space(
            "s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}", logit_scale=10.0
        )
        service.register("s", [
            trustvlm.LabelInput(
                name, self.text[i],
                image_vectors=self.supports[i, :shots[i]] if shots[i] else None,
                classifier_image_vectors=self.supports_text[i, :shots[i]] if shots[i] else None,
            )
            for i, name in enumerate(NAMES)
        ])  # fmt: skip
        return service


def right(pool: Pool, proposals: trustvlm.types.support.Proposals) -> list[bool]:
    return [NAMES[pool.truth[row.place]] == row.label if pool.truth[row.place] >= 0 else False
            for row in proposals]  # fmt: skip


def test_labels_without_images_get_four_to_eight(tmp_path: Path) -> None:
    pool = Pool()
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 0, 1, 2]) as service:
        proposals = service.propose("s", pool.queries)
        assert (proposals.images, proposals.labels, proposals.few) == (len(pool.truth), 4, 4)
        of_label = {name: [r for r in proposals if r.label == name] for name in NAMES}
        assert all(not of_label[name] for name in NAMES[:4])
        numbers = [len(of_label[name]) for name in NAMES[4:]]
        assert set(numbers) <= {0, 4, 5, 6, 7, 8}
        assert proposals.served == sum(number > 0 for number in numbers) >= 3
        assert np.mean(right(pool, proposals)) >= 0.97
        assert all(row.probability >= 0.5 and row.neighbours >= 6 for row in proposals)
        for rows in of_label.values():
            assert [r.probability for r in rows] == sorted(r.probability for r in rows)[::-1]
        assert proposals.unknown is not None
        assert service.get_space("s").support_count == 27


def test_the_unknown_test_comes_first(tmp_path: Path) -> None:
    pool = Pool(strange=60)
    with pool.open(tmp_path / "home", [6] * 7 + [0]) as service:
        proposals = service.propose("s", pool.queries, few=100)
        assert proposals.unknown is not None
        assert proposals.unknown >= 50
        assert all(pool.truth[row.place] >= 0 for row in proposals)
    with pool.open(tmp_path / "bare", [0] * 8) as service:
        assert service.propose("s", pool.queries).unknown is None


def test_accepted_ones_are_marked_and_removable_together(tmp_path: Path) -> None:
    pool = Pool()
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 0, 6, 6]) as service:
        proposals = service.propose("s", pool.queries, accept=True)
        made = [row.support_id for row in proposals]
        assert proposals.rows
        assert None not in made
        assert service.get_space("s").revision == proposals.revision
        marked = {row.id for row in service.audit("s") if row.proposed}
        assert marked == set(made)
        again = service.propose("s", pool.queries, accept=True, few=100)
        assert again.registered == len(made)
        assert not {row.place for row in again} & {row.place for row in proposals}
        one = service.remove_proposed("s", label=proposals[0].label)
        assert set(one.ids) == {
            row.support_id for rows in (proposals, again) for row in rows
            if row.label == proposals[0].label
        }  # fmt: skip
        assert len(service.remove_proposed("s").ids) == len(made) + len(again) - len(one.ids)
        assert service.get_space("s").support_count == 36
        assert service.remove_proposed("s").ids == ()
        service.restore_support("s", one.ids)
        assert {row.id for row in service.audit("s") if row.proposed} == set(one.ids)


def test_a_removed_proposal_is_not_accepted_again(tmp_path: Path) -> None:
    pool = Pool()
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 6, 6, 6]) as service:
        service.propose("s", pool.queries, accept=True)
        service.remove_proposed("s")
        again = service.propose("s", pool.queries, accept=True)
        assert [row.support_id for row in again] == [None] * len(again)
        assert service.get_space("s").support_count == 42


def test_images_of_known_label_are_left_out_and_proposals_never_calibrate(tmp_path: Path) -> None:
    pool = Pool(strange=0)
    names = [NAMES[i] for i in pool.truth]
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 6, 6, 6]) as service:
        every = trustvlm.Queries(pool.classifier[:120], pool.verifier[:120])
        service.calibrate("s", every, names[:120], max_risk=0.2)
        proposals = service.propose("s", pool.queries, accept=True, few=100)
        assert proposals.labelled == 120
        assert all(row.place >= 120 for row in proposals)
        assert service.count_observations("s").calibration == 120
        accepted = [row.place for row in proposals]
        queries = trustvlm.Queries(pool.classifier[accepted], pool.verifier[accepted])
        refused = service.feedback("s", queries, [names[i] for i in accepted], sampling="random")
        assert set(refused.ids) == {-1}


def test_a_person_accepts_in_the_tray(tmp_path: Path) -> None:
    pool = Pool()
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 6, 6, 6]) as service:
        proposals = service.propose("s", pool.queries, review=True, sources=[
            f"image {i}" for i in range(len(pool.truth))
        ])  # fmt: skip
        assert proposals.queued == len(proposals) >= 4
        assert service.propose("s", pool.queries, review=True).queued == 0
        queue = service.review("s")
        items = queue.items(tray="proposal").items
        assert [item.source for item in items] == [row.source for row in proposals]
        answered = queue.answer(items[0].id, items[0].predicted)
        assert answered.support_id is not None
        refused = queue.answer(items[1].id, None)
        assert refused.support_id is None
        assert service.remove_proposed("s").ids == (answered.support_id,)
        with pytest.raises(trustvlm.Conflict):
            queue.answer(items[0].id, NAMES[0])
        queue.undo(items[1].id)
        assert queue.question(items[1].id).item.state == "open"


def test_a_single_image_is_never_proposed(tmp_path: Path) -> None:
    pool = Pool(strange=0)
    with pool.open(tmp_path / "home", [6, 6, 6, 6, 6, 6, 6, 0]) as service:
        some = np.flatnonzero(pool.truth == 7)[:3]
        queries = trustvlm.Queries(pool.classifier[some], pool.verifier[some])
        assert service.propose("s", queries).rows == ()
        assert service.propose("s", trustvlm.Queries(
            np.empty((0, DIM)), np.empty((0, DIM)))).images == 0  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accept": True, "review": True}, "accept, review"),
        ({"few": 0}, "few"),
        ({"sources": ["one"]}, "sources"),
        ({"queries": trustvlm.Queries(np.ones((2, DIM)))}, "both|got one of the two"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    pool = Pool()
    given: dict[str, object] = {"queries": pool.queries} | arguments
    with (
        pool.open(tmp_path / "home", [1] * 8) as service,
        pytest.raises(trustvlm.InvalidInput, match=message),
    ):
        service.propose("s", **given)  # type: ignore[arg-type]


def test_command_line(tmp_path: Path) -> None:
    pool = Pool()
    pool.open(tmp_path / "home", [6, 6, 6, 6, 0, 0, 6, 6]).close()
    np.savez(tmp_path / "pool.npz", classifier=pool.classifier, verifier=pool.verifier)
    cli, given = Cli(tmp_path / "home"), ("propose", "s", "--vectors", tmp_path / "pool.npz")
    listed = cli.run(*given)
    assert "of 2 labels with fewer than 4 support images" in listed.stdout
    assert "nothing was stored" in listed.stderr
    assert len(cli.rows(*given)) >= 4
    assert "in the review queue" in cli.run(*given, "--review").stderr
    assert "support remove s --proposed" in cli.run(*given, "--accept").stderr
    assert "removed" in cli("support", "remove", "s", "--proposed")
    assert "got both" in cli(*given, "--accept", "--review", code=2)
    assert "Expected" in cli("support", "remove", "s", code=2)
