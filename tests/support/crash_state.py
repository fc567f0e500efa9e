"""What a home holds, read from its file or predicted from what its writers were told: the oracle of
the crash tests.

Vectors come from fixed pools, so that any vector found in a home has a number, and a whole home is
a small value that can be compared: a label is the number of its text vector and the set of the
numbers of its support images.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import trustvlm
from trustvlm import LabelInput, Queries, TrustService
from trustvlm.scoring.prototypes import mean_prototype, text_prototype

CATALOG = "catalog.sqlite3"
TEXT_DIM, IMAGE_DIM = 16, 24
POOL = 8_192
SUPPORTS, CALIBRATION, FEEDBACK = range(0, 6_000), range(6_000, 6_500), range(6_500, POOL - 24)
"""Which numbers serve as support images, calibration images and feedback."""

TEXTS = np.random.default_rng(11).standard_normal((POOL, TEXT_DIM)).astype(np.float32)
IMAGES = np.random.default_rng(12).standard_normal((POOL, IMAGE_DIM)).astype(np.float32)
TEXT_OF = {
    text_prototype(row[np.newaxis].astype(np.float64)).tobytes(): i for i, row in enumerate(TEXTS)
}
IMAGE_OF = {row.tobytes(): i for i, row in enumerate(IMAGES)}
HASHES = [hashlib.sha256(row.tobytes()).digest() for row in IMAGES]
HASH_OF = {content: i for i, content in enumerate(HASHES)}

UNSEEN, BEFORE = ("/reembed", "/importing"), "/before"
"""What the names of spaces beside a space end with: of one being made, and of one with the
embeddings from before."""

Op = dict[str, Any]


@dataclass(frozen=True)
class Label:
    """`supports` are those that belong to it while it is there (a removed label keeps them),
    `hidden` those removed alone."""

    text: int
    supports: frozenset[int] = frozenset()
    hidden: frozenset[int] = frozenset()
    gone: bool = False
    alias_of: str | None = None


@dataclass(frozen=True)
class Space:
    labels: dict[str, Label] = field(default_factory=dict)
    gone: bool = False
    recipe: str = "flat"
    calibrations: int = 0
    observed: frozenset[tuple[int, str]] = frozenset()


State = dict[str, Space]


def read_state(home: Path) -> State:
    """What the catalog holds, looked at with nothing but SQLite. Fails where it holds anything that
    was never given."""
    found: State = {}
    with raw(home) as catalog:
        for space_id, name, removed, recipe in catalog.execute(
            "SELECT id, name, removed_at, recipe FROM spaces"
        ).fetchall():
            if name.endswith(UNSEEN) or (
                name.endswith(BEFORE) and removed is not None and removed < "2000"
            ):
                continue  # being made, or discarded: only `verify` looks at it
            labels, names = {}, {}
            query = (
                "SELECT id, name, text_prototype, removed_revision, alias_of FROM labels "
                "WHERE space_id = ?"
            )
            rows = catalog.execute(query, (space_id,)).fetchall()
            for label_id, label, text, gone, _ in rows:
                names[label_id] = label, gone
                labels[label] = Label(TEXT_OF[text], gone=gone is not None)
            for _, label, _, _, alias in rows:
                labels[label] = replace(
                    labels[label], alias_of=names[alias][0] if alias in names else None
                )
            own: dict[str, tuple[set[int], set[int]]] = {label: (set(), set()) for label in labels}
            query = "SELECT label_id, embedding, removed_revision FROM supports WHERE space_id = ?"
            for label_id, embedding, gone in catalog.execute(query, (space_id,)):
                label, label_gone = names[label_id]
                assert label_gone is None or gone is not None, (
                    f"a live support image of the removed label {label}"
                )
                own[label][gone != label_gone].add(IMAGE_OF[embedding])
            query = "SELECT content_hash, origin FROM observations WHERE space_id = ?"
            observed = frozenset(
                (HASH_OF[content], origin)
                for content, origin in catalog.execute(query, (space_id,))
            )
            query = "SELECT count(*) FROM calibrations WHERE space_id = ? AND removed_at IS NULL"
            (calibrations,) = catalog.execute(query, (space_id,)).fetchone()
            found[name] = Space(
                {
                    label: replace(
                        value, supports=frozenset(own[label][0]), hidden=frozenset(own[label][1])
                    )
                    for label, value in labels.items()
                },
                removed is not None,
                recipe,
                calibrations,
                observed,
            )
    return found


class raw:  # a context manager that is used like a function
    """A plain SQLite connection on a home's catalog, closed at the end (sqlite3's own context
    manager only commits)."""

    def __init__(self, home: Path) -> None:
        self._connection = sqlite3.connect(home / CATALOG)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


# What a change does


def states_after(state: State, op: Op) -> list[State]:
    """The states that a change goes through, each durable as a whole; the last one is that of the
    finished change."""
    kind = op["op"]
    if kind in ("score", "log", "serve", "backup", "restore", "abort"):
        return [state]
    if kind == "purge":
        return [purged(state)]
    name = op["space"]
    if kind in ("create_space", "import_refused"):
        return [state | {name: Space()}]
    if kind == "import":
        return [state | {name: Space(purged(state)[op["of"]].labels)}]
    space, before = state[name], name + BEFORE
    if kind in ("remove_space", "restore_space"):
        beside = [name, *([before] if before in state else [])]
        return [state | {one: replace(state[one], gone=kind == "remove_space") for one in beside}]
    if kind == "discard_old":
        return [{one: value for one, value in state.items() if one != before}]
    if kind == "reembed":
        return [state | {before: space, name: reembedded(space, op["tag"])}]
    return [state | {name: one} for one in _spaces_after(space, op)]


def reembedded(space: Space, tag: str) -> Space:
    """The space with other vectors; without a `tag`, with the same ones, as under other
    templates."""
    live = purged({"": space})[""]
    if not tag:
        return live
    other = {
        name: replace(
            label, text=other_text(label.text), supports=frozenset(map(other_image, label.supports))
        )
        for name, label in live.labels.items()
    }
    return replace(live, labels=other, observed=frozenset())


def other_text(number: int) -> int:
    """The text vector that one becomes when its space is re-embedded."""
    return POOL - 1 - number


def other_image(number: int) -> int:
    """The same of a support image: it serves for the same."""
    return (SUPPORTS if number in SUPPORTS else FEEDBACK)[
        -1 - (SUPPORTS if number in SUPPORTS else FEEDBACK).index(number)
    ]


def _spaces_after(space: Space, op: Op) -> Iterator[Space]:
    kind, labels = op["op"], space.labels
    if kind == "register":
        for start in range(0, len(op["labels"]), op["chunk"]):
            for name, text, supports in op["labels"][start : start + op["chunk"]]:
                known = labels.get(name, Label(text))
                labels = labels | {name: replace(known, supports=known.supports | set(supports))}
            yield replace(space, labels=labels)
    elif kind == "unreview":
        (labels,) = _labels_after(labels, {**op, "op": "remove_support"})
        answered = {(number, "feedback") for number in op["supports"]}
        yield replace(space, labels=labels, observed=space.observed - answered)
    elif kind in ("calibrate", "feedback", "review"):
        origin = "calibration" if kind == "calibrate" else "feedback"
        kept = {
            (number, of) for number, of in space.observed if of == "feedback" or kind != "calibrate"
        }
        seen = frozenset(kept | {(number, origin) for number in op["queries"]})
        yield replace(space, observed=seen, calibrations=space.calibrations + (kind == "calibrate"))
        if op.get("promote"):
            for number, name in zip(op["queries"], op["truth"], strict=True):
                labels = labels | {
                    name: replace(labels[name], supports=labels[name].supports | {number})
                }
            yield replace(space, labels=labels, observed=seen)
    elif kind == "uncalibrate":
        yield replace(space, calibrations=space.calibrations - 1)
    elif kind == "rebuild":
        yield replace(space, recipe=op.get("recipe", space.recipe))
    elif kind in ("repoint", "tune", "describe"):
        yield space
    else:
        changed = list(_labels_after(labels, op))
        yield from (replace(space, labels=one) for one in changed)


def _labels_after(labels: dict[str, Label], op: Op) -> Iterator[dict[str, Label]]:
    kind, name = op["op"], op["label"]
    label, some = labels[name], frozenset(op.get("supports", ()))
    others = {other: value for other, value in labels.items() if other != name}
    if kind == "add_support":
        yield others | {name: replace(label, supports=label.supports | some)}
    elif kind == "remove_support":
        yield others | {
            name: replace(label, supports=label.supports - some, hidden=label.hidden | some)
        }
    elif kind == "repair":
        yield others | {name: replace(label, supports=label.supports - some)}
    elif kind == "move_support":
        target = others[op["to"]]
        yield others | {
            name: replace(label, supports=label.supports - some, hidden=label.hidden | some),
            op["to"]: replace(target, supports=target.supports | some),
        }
    elif kind == "restore_support":
        yield others | {
            name: replace(label, supports=label.supports | some, hidden=label.hidden - some)
        }
    elif kind == "update_label":
        new = op.get("new", name)
        renamed = {
            other: replace(v, alias_of=new) if v.alias_of == name else v
            for other, v in others.items()
        }
        yield renamed | {new: replace(label, text=op.get("text", label.text))}
    elif kind in ("remove_label", "restore_label"):
        yield others | {name: replace(label, gone=kind == "remove_label")}
    elif kind == "purge_label":
        yield others | {name: replace(label, gone=True)}
        yield others
    elif kind == "alias":
        yield others | {name: replace(label, alias_of=op["of"])}
    elif kind == "unalias":
        yield others | {name: replace(label, alias_of=None)}
    else:
        raise AssertionError(kind)


def purged(state: State) -> State:
    """Without all that was removed."""
    return {
        name: replace(
            space,
            labels={
                n: replace(label, hidden=frozenset())
                for n, label in space.labels.items()
                if not label.gone
            },
        )
        for name, space in state.items()
        if not space.gone
    }


def is_partly_purged(found: State, before: State) -> bool:
    """Whether nothing but parts of what was removed is missing."""
    if purged(found) != purged(before):
        return False
    return found.keys() <= before.keys() and all(
        _part(space, before[name]) for name, space in found.items()
    )


def _part(found: Space, before: Space) -> bool:
    labels = found.labels.keys() <= before.labels.keys() and found.observed <= before.observed
    return labels and all(
        label.supports <= before.labels[name].supports
        and label.hidden <= before.labels[name].hidden
        for name, label in found.labels.items()
    )


def is_possible(found: State, before: State, op: Op | None, chunks: int) -> bool:
    """Whether a home may hold `found` when `before` was acknowledged and, of `op` which was under
    way, `chunks`."""
    if op is None:
        return found == before
    if op["op"] == "purge":
        return is_partly_purged(found, before)
    possible = [before, *states_after(before, op)][chunks:]
    if op["op"] == "purge_label":
        return any(found == one for one in possible) or is_partly_purged(found, possible[1])
    return any(found == one for one in possible)


def difference(found: State, expected: State) -> str:
    """The first few things that differ, in words."""
    lines = [
        f"space {name}: {'there' if name in found else 'missing'}"
        for name in found.keys() ^ expected.keys()
    ]
    for name in found.keys() & expected.keys():
        got, wanted = found[name], expected[name]
        for label in sorted(got.labels.keys() | wanted.labels.keys()):
            if got.labels.get(label) != wanted.labels.get(label):
                lines.append(
                    f"{name}/{label}: {got.labels.get(label)}, expected {wanted.labels.get(label)}"
                )
        if replace(got, labels={}) != replace(wanted, labels={}):
            lines.append(
                f"{name}: {replace(got, labels={})}, expected {replace(wanted, labels={})}"
            )
    return "; ".join(lines[:6])


# Whether a home is sound


def require_sound(home: Path) -> None:
    """The file, every checksum, every prototype to the bit, and revisions in order; with plain
    SQLite."""
    with raw(home) as catalog:
        assert catalog.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert catalog.execute("PRAGMA foreign_key_check").fetchall() == []
        groups: dict[int, dict[bytes, bytes]] = {}
        query = (
            "SELECT coalesce(l.alias_of, l.id), s.content_hash, s.embedding, "
            "s.classifier_embedding, s.checksum, "
            "s.removed_revision FROM supports s JOIN labels l ON l.id = s.label_id"
        )
        for owner, content, embedding, other, checksum, gone in catalog.execute(query):
            assert checksum == zlib.crc32(other or b"", zlib.crc32(embedding))
            assert content == hashlib.sha256(embedding).digest()
            if gone is None:
                groups.setdefault(owner, {})[content] = embedding
        query = (
            "SELECT l.id, l.name, text_prototype, prototype, support_count, checksum, alias_of, "
            "coalesce(removed_revision, removed_at_of_space) FROM labels l JOIN "
            "(SELECT id AS of_space, removed_at AS removed_at_of_space FROM spaces) ON of_space "
            "= l.space_id"
        )
        for label_id, name, text, prototype, count, checksum, alias, gone in catalog.execute(query):
            assert checksum == zlib.crc32(prototype or b"", zlib.crc32(text)), name
            if gone is not None:
                continue
            own = [
                np.frombuffer(embedding, "<f4")
                for _, embedding in sorted(groups.get(label_id, {}).items())
            ]
            if alias is not None or not own:
                assert (prototype, count) == (None, 0), name
            else:
                assert count == len(own), name
                assert prototype == mean_prototype(np.array(own, np.float64)).tobytes(), name
        for table in ("labels", "supports", "changes", "fits"):
            ahead = (
                f"SELECT count(*) FROM {table} t JOIN spaces s ON s.id = t.space_id WHERE "
                f"t.revision > s.revision"
            )
            assert catalog.execute(ahead).fetchone() == (0,), f"{table} from the future"


def mended(home: Path) -> None:
    """Let `verify` finish, or do, the repair of what a child damaged: nothing else may be damaged,
    and nothing is left."""
    with trustvlm.open(home) as service:
        report = service.verify(repair=True)
        assert report.clean, report
        assert {damage.kind for damage in report.repaired} <= {
            "support",
            "label",
            "catalog",
            "snapshot",
            "fit",
        }, report
    with raw(home) as catalog:
        query = "SELECT count(*) FROM quarantine WHERE kind = 'support'"
        for damage in report.repaired:
            assert damage.kind != "support" or catalog.execute(
                query + " AND row_id = ?", (damage.row_id,)
            ).fetchone() == (1,)


def build(service: TrustService, state: State) -> None:
    """A fresh home with what `state` has alive."""
    for name, space in purged(state).items():
        if name.endswith(BEFORE):
            continue
        create(service, name)
        service.register(
            name,
            [
                label_input(n, label.text, sorted(label.supports))
                for n, label in space.labels.items()
            ],
        )
        for label_name, label in space.labels.items():
            if label.alias_of is not None:
                service.alias(name, label_name, label.alias_of)


def create(service: TrustService, name: str) -> None:
    service.create_space(
        name,
        classifier=f"precomputed:{TEXT_DIM}",
        verifier=f"precomputed:{IMAGE_DIM}",
        logit_scale=10.0,
    )


def label_input(name: str, text: int, supports: list[int]) -> LabelInput:
    return LabelInput(
        name, text_vector=TEXTS[text], image_vectors=IMAGES[supports] if supports else None
    )


def queries(numbers: list[int]) -> Queries:
    return Queries(TEXTS[numbers], IMAGES[numbers])


ASKED = queries(list(range(POOL - 24, POOL)))
SMALL = 500
"""Up to so many labels with support images, a query gets the fit of its own revision."""


def require_same_verdicts(
    one: TrustService, other: TrustService, state: State, tolerance: float = 1e-5
) -> None:
    """Verdicts and nearest support images of the two, in every live space: equal as in
    docs/rules.md, "Equality"."""
    for name, space in purged(state).items():
        if not space.labels or name.endswith(BEFORE):
            continue
        exact = space.recipe == "flat"  # others may find other candidates after a rebuild
        images = exact and any(label.supports for label in space.labels.values())
        small = sum(bool(label.supports) for label in space.labels.values()) <= SMALL
        for rule in (
            "msp",
            *(["trustvlm"] if images else []),
            *(["posterior"] if images and small else []),
        ):
            got, expected = one.score(name, ASKED, rule=rule), other.score(name, ASKED, rule=rule)
            for column in ("label", "rival", "nearest_prototype", "unverified", "top_labels"):
                np.testing.assert_array_equal(
                    getattr(got, column),
                    getattr(expected, column),
                    err_msg=f"{name} {rule} {column}",
                )
            for column in (
                "trust",
                "text_confidence",
                "image_similarity",
                "nearest_similarity",
                "rival_trust",
            ):
                a, b = getattr(got, column), getattr(expected, column)
                np.testing.assert_allclose(
                    a, b, atol=tolerance, rtol=0, err_msg=f"{name} {rule} {column}"
                )
        if images:
            got_hits, hits = one.search(name, ASKED, k=5), other.search(name, ASKED, k=5)
            np.testing.assert_allclose(got_hits.similarity, hits.similarity, atol=tolerance, rtol=0)
            np.testing.assert_array_equal(got_hits.labels, hits.labels)


def require_whole(home: Path, state: State, scratch: Path) -> None:
    """The home opens, is sound, and answers like a fresh one with the same content; `trustvlm
    verify` finds nothing wrong."""
    require_sound(home)
    with trustvlm.open(home) as service, trustvlm.open(scratch, create=True) as fresh:
        build(fresh, state)
        require_same_verdicts(service, fresh, state)
        report = service.verify()
        assert report.clean, report
