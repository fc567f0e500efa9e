"""The child of the crash tests: changes a home, telling each change before it begins and after it
is acknowledged.

`python crash_child.py HOME WHAT …`, where WHAT is one of: `tour N`: once through every kind of
change, or the first N steps; `random SEED FIRST`: at random until it is killed, beginning with the
change FIRST, one that was interrupted, if that is not empty; `upgrade`: copies of an old catalog,
one after the other, to the newest schema; `create N`: N new homes. It tells lines: B {change}, C (a
chunk of it is acknowledged), D, X {error}, E (end).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from children import tell
from crash_state import (
    BEFORE,
    CALIBRATION,
    CATALOG,
    FEEDBACK,
    IMAGE_DIM,
    IMAGE_OF,
    IMAGES,
    POOL,
    SUPPORTS,
    TEXT_DIM,
    TEXT_OF,
    TEXTS,
    Label,
    Op,
    Space,
    State,
    create,
    label_input,
    other_image,
    other_text,
    queries,
    raw,
    read_state,
    states_after,
)

import trustvlm
from trustvlm import TrustService
from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.service.server.server_home import ServerHome

BULK = 2_000
CHUNK = 100


# One function for each kind of change


def register(service: TrustService, op: Op) -> None:
    home = service._home
    thresholds = replace(home.thresholds, transaction_labels=op["chunk"])
    service._home = replace(home, thresholds=thresholds)
    inputs = [label_input(name, text, supports) for name, text, supports in op["labels"]]
    service.register(op["space"], inputs, on_commit=lambda names: tell("C"))


def add_support(service: TrustService, op: Op) -> None:
    service.add_support(op["space"], op["label"], image_vectors=IMAGES[op["supports"]])


def remove_support(service: TrustService, op: Op) -> None:
    service.remove_support(op["space"], ids_of(service, op, "IS NULL"))


def restore_support(service: TrustService, op: Op) -> None:
    service.restore_support(op["space"], ids_of(service, op, "IS NOT NULL"))


def ids_of(service: TrustService, op: Op, removed: str) -> list[int]:
    query = (
        "SELECT s.id FROM supports s JOIN labels l ON l.id = s.label_id JOIN spaces p ON "
        "p.id = l.space_id "
        f"WHERE p.name = ? AND l.name = ? AND s.removed_revision {removed} AND s.embedding = ?"
    )
    with raw(service._home.folder) as catalog:
        return [
            catalog.execute(query, (op["space"], op["label"], IMAGES[number].tobytes())).fetchone()[
                0
            ]
            for number in op["supports"]
        ]


def update_label(service: TrustService, op: Op) -> None:
    text = TEXTS[op["text"]] if "text" in op else None
    service.update_label(op["space"], op["label"], text_vector=text, new_name=op.get("new"))


def describe(service: TrustService, op: Op) -> None:
    """Change what no vector depends on: attributes, an indexed key, a mark, a parent."""
    (support_id,) = ids_of(service, op, "IS NULL")
    name, key = op["what"], {"season": "summer"}
    if name == "support":
        service.update_support(op["space"], support_id, attributes=key)
    elif name == "key":
        service.index_attribute(op["space"], "season")
    elif name == "mark":
        service.keep_support(op["space"], [support_id])
    else:
        service.set_parents(op["space"], {op["label"]: "node"})


def move_support(service: TrustService, op: Op) -> None:
    service.move_support(op["space"], ids_of(service, op, "IS NULL"), op["to"])


def remove_label(service: TrustService, op: Op) -> None:
    service.remove_label(op["space"], op["label"])


def purge_label(service: TrustService, op: Op) -> None:
    service.remove_label(op["space"], op["label"], purge=True)


def restore_label(service: TrustService, op: Op) -> None:
    service.restore_label(op["space"], op["label"])


def alias(service: TrustService, op: Op) -> None:
    service.alias(op["space"], op["label"], op["of"])


def unalias(service: TrustService, op: Op) -> None:
    service.unalias(op["space"], op["label"])


def create_space(service: TrustService, op: Op) -> None:
    create(service, op["space"])


def remove_space(service: TrustService, op: Op) -> None:
    service.remove_space(op["space"])


def restore_space(service: TrustService, op: Op) -> None:
    service.restore_space(op["space"])


def purge(service: TrustService, op: Op) -> None:
    """Purge what was removed, and an image file of a registration that did not commit."""
    original = service._home.folder / "originals" / "00" / ("0" * 62)
    original.parent.mkdir(parents=True, exist_ok=True)
    original.touch()
    service.purge(older_than=timedelta(0))
    assert not original.exists()


def rebuild(service: TrustService, op: Op) -> None:
    service.rebuild_index(op["space"], recipe=op.get("recipe"))


def repoint(service: TrustService, op: Op) -> None:
    service.repoint_space(op["space"], classifier=service.get_space(op["space"]).classifier)


def tune(service: TrustService, op: Op) -> None:
    service.tune_index(op["space"], recall=0.5, k=3)


def score(service: TrustService, op: Op) -> None:
    service.score(op["space"], queries([1, 2, 3]))


def log(service: TrustService, op: Op) -> None:
    """Log three answers, then no more, and delete what is logged."""
    verdicts = service.verdict_log(op["space"])
    verdicts.switch(True)
    score(service, op)
    assert verdicts.status().stored == 3
    verdicts.switch(False, discard=True)


def calibrate(service: TrustService, op: Op) -> None:
    service.calibrate(op["space"], queries(op["queries"]), op["truth"], max_risk=0.3)


def uncalibrate(service: TrustService, op: Op) -> None:
    service.remove_calibration(op["space"], service.list_calibrations(op["space"])[0].id)


def feedback(service: TrustService, op: Op) -> None:
    service.feedback(
        op["space"], queries(op["queries"]), op["truth"], promote=op.get("promote", False)
    )


def review(service: TrustService, op: Op) -> None:
    """Queue an image and answer about it, by making it a support image."""
    service.score(op["space"], queries(op["queries"]), review=True)
    waiting = service.review(op["space"]).items(state=None).items
    service.review(op["space"]).answer(waiting[-1].id, op["truth"][0], use_as_support=True)


def unreview(service: TrustService, op: Op) -> None:
    answered = service.review(op["space"]).items(state="answered").items
    service.review(op["space"]).undo(answered[-1].id)


def backup(service: TrustService, op: Op) -> None:
    service.backup(backup_of(service._home.folder), force=True)


def restore(service: TrustService, op: Op) -> None:
    """Make a home of the last backup, or put it in the place of the one that was made before."""
    home = service._home.folder
    trustvlm.restore(backup_of(home), restored_of(home), replace=restored_of(home).exists())


def backup_of(home: Path) -> Path:
    return home.with_suffix(".backup")


def restored_of(home: Path) -> Path:
    return home.with_suffix(".restored")


def serve(service: TrustService, op: Op) -> None:
    """What the HTTP service notes in a catalog: keys, repeated calls, jobs."""
    server = ServerHome(service)
    row, _ = server.create_key("write")
    server.rotate_key(row.id)
    worker = server.worker()
    try:
        for key in ("answered", "dropped"):
            server.begin_call("nobody", f"{key} {row.id}", b"request", worker)
        server.end_call("nobody", f"answered {row.id}", 200, b"{}")
        server.drop_call("nobody", f"dropped {row.id}")
        now = datetime.now(UTC)
        server.create_job(
            JobRecord(
                row.id,
                "evaluate",
                "main",
                "nobody",
                worker.id,
                "running",
                "",
                0,
                None,
                False,
                None,
                None,
                now,
                now,
            )
        )
        server.cancel_job(row.id)
        server.change_job(row.id, state="cancelled")
        server.sweep()
        server.end_orphans(worker, {})
    finally:
        worker.close()


def import_(service: TrustService, op: Op) -> None:
    service.import_space(exported(service, op["of"]), name=op["space"])


def import_refused(service: TrustService, op: Op) -> None:
    """Somebody takes the name before the import is in: what is in of it is deleted again."""
    folder = exported(service, op["of"])
    try:
        service.import_space(
            folder, name=op["space"], progress=lambda count: create(service, op["space"])
        )
    except trustvlm.Conflict:
        return
    raise AssertionError("two spaces of one name")


def exported(service: TrustService, space: str) -> Path:
    folder = service._home.folder.with_suffix(".exported")
    shutil.rmtree(folder, ignore_errors=True)
    return service.export_space(space, folder).folder


def repair(service: TrustService, op: Op) -> None:
    """Damage a support image, and with `index` an index of SQLite's, in the file; then let it be
    mended."""
    (support_id,) = ids_of(service, op, "IS NULL")
    with raw(service._home.folder) as catalog:
        damaged = (
            bytes([IMAGES[op["supports"][0]].tobytes()[0] ^ 1])
            + IMAGES[op["supports"][0]].tobytes()[1:]
        )
        if op["index"]:
            query = (
                "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
                "ORDER BY name"
            )
            catalog.execute(f"DROP INDEX {catalog.execute(query).fetchone()[0]}")
        catalog.execute("UPDATE supports SET embedding = ? WHERE id = ?", (damaged, support_id))
        catalog.commit()
    assert service.verify(repair=True).clean


def reembed(service: TrustService, op: Op) -> None:
    """Give a space other vectors, or without a `tag` other templates."""
    if not op["tag"]:
        service.reembed_space(op["space"], templates=["another {}"])
        return
    of_space = (
        "space_id = (SELECT id FROM spaces WHERE name = ? AND removed_at IS NULL) AND "
        "removed_revision IS NULL"
    )
    with raw(service._home.folder) as catalog:
        labels = catalog.execute(
            f"SELECT name, text_prototype FROM labels WHERE {of_space}", (op["space"],)
        ).fetchall()
        images = catalog.execute(
            f"SELECT id, embedding FROM supports WHERE {of_space}", (op["space"],)
        ).fetchall()
    service.reembed_space(
        op["space"],
        classifier=f"precomputed:{TEXT_DIM}:{op['tag']}",
        verifier=f"precomputed:{IMAGE_DIM}:{op['tag']}",
        text_vectors={name: TEXTS[other_text(TEXT_OF[text])] for name, text in labels},
        image_vectors={
            support_id: IMAGES[other_image(IMAGE_OF[image])] for support_id, image in images
        },
    )


def abort(service: TrustService, op: Op) -> None:
    """Begin to embed a space anew, or go on, without the vectors that it takes; then give up."""
    try:
        service.reembed_space(op["space"], classifier=f"precomputed:{TEXT_DIM}:aborted")
    except trustvlm.Conflict:
        service.abort_reembed(op["space"])
        return
    raise AssertionError("re-embedded without text vectors")


def discard_old(service: TrustService, op: Op) -> None:
    service.discard_old(op["space"])


def perform(service: TrustService, op: Op) -> None:
    tell("B " + json.dumps(op))
    globals()["import_" if op["op"] == "import" else op["op"]](service, op)
    tell("D")


# The workloads


def tour_of() -> list[Op]:
    """Every kind of change, each with something to change, after :func:`furnished`."""
    s, main = SUPPORTS, {"space": "main"}
    many = [[f"bulk {i:04d}", i, [i]] for i in range(BULK)]
    more = [[f"bulk {i:04d}", i, [i + BULK, i + 2 * BULK]] for i in range(BULK)]
    steps: list[Op] = [
        {"op": "create_space", "space": "new"},
        {
            "op": "register",
            "space": "new",
            "chunk": 3,
            "labels": [[f"n{i}", 100 + i, [s[200 + i]]] for i in range(7)],
        },
        {"op": "add_support", **main, "label": "m1", "supports": [300, 301]},
        {"op": "remove_support", **main, "label": "m1", "supports": [300]},
        {"op": "restore_support", **main, "label": "m1", "supports": [300]},
        *(
            {"op": "describe", **main, "label": "m1", "supports": [301], "what": what}
            for what in ("support", "key", "mark", "parent")
        ),
        {"op": "move_support", **main, "label": "m1", "supports": [301], "to": "m6"},
        {"op": "update_label", **main, "label": "m2", "new": "renamed", "text": 500},
        {"op": "alias", **main, "label": "m3", "of": "m4"},
        {"op": "unalias", **main, "label": "m3"},
        {"op": "remove_label", **main, "label": "m5"},
        {"op": "restore_label", **main, "label": "m5"},
        {
            "op": "calibrate",
            **main,
            "queries": [*CALIBRATION[:40]],
            "truth": [f"m{6 + i % 5}" for i in range(40)],
        },
        {"op": "uncalibrate", **main},
        {
            "op": "feedback",
            **main,
            "queries": [*FEEDBACK[:2]],
            "truth": ["m6", "m7"],
            "promote": True,
        },
        {"op": "review", **main, "queries": [FEEDBACK[2]], "truth": ["m6"], "promote": True},
        {"op": "unreview", **main, "label": "m6", "supports": [FEEDBACK[2]]},
        {"op": "score", **main},
        {"op": "log", **main},
        {"op": "rebuild", **main},
        {"op": "repoint", **main},
        {"op": "serve"},
        {"op": "backup"},
        {"op": "restore"},
        {"op": "repair", **main, "label": "m10", "supports": [100], "index": False},
        {"op": "repair", **main, "label": "m11", "supports": [111], "index": True},
        {"op": "reembed", **main, "tag": ""},
        {"op": "remove_label", **main, "label": "m8"},
        {"op": "purge_label", **main, "label": "m9"},
        {"op": "discard_old", **main},
        {"op": "abort", **main},
        {"op": "reembed", **main, "tag": "new"},
        {"op": "backup"},
        {"op": "restore"},
        {"op": "remove_space", "space": "new"},
        {"op": "restore_space", "space": "new"},
        {"op": "remove_space", "space": "new"},
        {"op": "purge"},
        {"op": "import", "space": "copy", "of": "main"},
        {"op": "import_refused", "space": "taken", "of": "main"},
        {"op": "create_space", "space": "bulk"},
        {"op": "register", "space": "bulk", "chunk": 1_000, "labels": many},
        {"op": "score", "space": "bulk"},
        {"op": "register", "space": "bulk", "chunk": 1_000, "labels": more},
        {"op": "score", "space": "bulk"},
        {"op": "rebuild", "space": "bulk", "recipe": "hnsw"},
        {"op": "tune", "space": "bulk"},
    ]
    return steps


def furnished(service: TrustService) -> State:
    """What the tour starts from: fourteen labels with two or three support images each."""
    labels = [[f"m{i}", i, [*range(10 * i, 10 * i + 2 + i % 2)]] for i in range(14)]
    ops: list[Op] = [
        {"op": "create_space", "space": "main"},
        {"op": "register", "space": "main", "chunk": 1_000, "labels": labels},
    ]
    state: State = {}
    create(service, "main")
    service.register("main", [label_input(*label) for label in labels])  # type: ignore[arg-type]
    for op in ops:
        state = states_after(state, op)[-1]
    return state


def tour(home: Path, steps: str = "") -> None:
    """The tour, or its first so many steps."""
    with trustvlm.open(home) as service:
        tell("R")
        for op in tour_of()[: int(steps) if steps else None]:
            try:
                perform(service, op)
            except trustvlm.Unavailable as error:
                tell(f"X {error}")
                break
    tell("E")


def chance_op(state: State, chance: random.Random, home: Path) -> Op:
    """A change that can be made to `state`."""
    live = [name for name, space in state.items() if not space.gone and not name.endswith(BEFORE)]
    if not live:
        return {"op": "create_space", "space": f"space {chance.getrandbits(40):010x}"}
    name = chance.choice(live)
    space, at = state[name], {"space": name}
    bulk = name.startswith("bulk")
    own = {
        n: label for n, label in space.labels.items() if not label.gone and label.alias_of is None
    }
    used = {number for label in space.labels.values() for number in label.supports | label.hidden}
    fresh = [number for number in chance.sample(SUPPORTS, 60) if number not in used]
    kinds = (
        ["register", "rebuild", "purge"] * 2
        + ["score"] * 2 * bool(own)
        + _kinds(state, space, own, bulk)
    )
    kinds += ["backup", *(["restore"] if backup_of(home).exists() else [])]
    kinds += [] if bulk else _kinds_beside(state, name, own)
    kind = chance.choice(kinds)
    op: Op = {"op": kind} | at
    if kind in ("backup", "restore"):
        return {"op": kind}
    if kind == "create_space":
        return op | {"space": f"space {chance.getrandbits(40):010x}"}
    if kind == "create_bulk":
        return {"op": "create_space", "space": f"bulk {chance.getrandbits(40):010x}"}
    if kind == "purge":
        return {"op": "purge"}
    if kind == "restore_space":
        return op | {
            "space": chance.choice(
                [n for n, s in state.items() if s.gone and not n.endswith(BEFORE)]
            )
        }
    if kind in ("import", "import_refused"):
        return {"op": kind, "space": f"space {chance.getrandbits(40):010x}", "of": name}
    if kind == "reembed":
        return op | {"tag": f"{chance.getrandbits(40):010x}"}
    if kind == "register":
        if bulk:
            return op | {"chunk": CHUNK, "labels": [[f"bulk {i:04d}", i, [i]] for i in range(BULK)]}
        fresh_labels = [
            [
                f"label {chance.getrandbits(40):010x}",
                chance.randrange(POOL),
                [fresh.pop() for _ in range(chance.randrange(4))],
            ]
            for _ in range(chance.randint(1, 6))
        ]
        return op | {"chunk": chance.choice([2, 1_000]), "labels": fresh_labels}
    if kind in ("score", "rebuild", "remove_space", "uncalibrate", "abort", "discard_old"):
        return op
    if kind == "calibrate":
        chosen = chance.sample(CALIBRATION, 30)
        return op | {"queries": chosen, "truth": [chance.choice([*own]) for _ in chosen]}
    if kind == "feedback":
        free = [
            n
            for n in FEEDBACK
            if n not in used and n not in {number for number, _ in space.observed}
        ]
        chosen = chance.sample(free, 2)
        return op | {
            "queries": chosen,
            "truth": [chance.choice([*own]) for _ in chosen],
            "promote": chance.random() < 0.5,
        }
    return op | _about_a_label(kind, space, own, fresh, chance)


def _kinds(state: State, space: Space, own: dict[str, Label], bulk: bool) -> list[str]:
    if bulk:
        return ["remove_space"] * (
            6 if len(space.labels) == BULK else 1
        )  # its labels' names come again: none is removed
    kinds = ["create_space"] * (len(state) < 4) + ["create_bulk"] * 4 * (
        not any(n.startswith("bulk") for n in state)
    )
    kinds += ["remove_space"] * (len(state) > 2) + ["restore_space"] * any(
        s.gone for n, s in state.items() if not n.endswith(BEFORE)
    )
    if len(own) > 2:
        kinds += ["add_support", "update_label", "remove_label", "purge_label", "alias"]
    if sum(bool(label.supports) for label in own.values()) > 3:
        kinds += ["remove_support", "calibrate", "feedback"] + ["remove_label"] * (
            len(own) > 30
        ) * 6
    kinds += ["uncalibrate"] * (space.calibrations > 0)
    kinds += ["restore_label"] * any(label.gone for label in space.labels.values())
    kinds += ["restore_support"] * any(
        label.hidden and not label.gone for label in space.labels.values()
    )
    return kinds + ["unalias"] * any(
        label.alias_of and not label.gone for label in space.labels.values()
    )


def _kinds_beside(state: State, name: str, own: dict[str, Label]) -> list[str]:
    """Changes that make another space beside this one, or mend it."""
    kinds = ["import", "import_refused"] if len(state) < 5 and own else []
    kinds += ["repair"] * any(label.supports for label in own.values())
    return kinds + (
        ["discard_old"] * 2 if name + BEFORE in state else ["reembed", "abort"] * bool(own)
    )


def _about_a_label(
    kind: str, space: Space, own: dict[str, Label], fresh: list[int], chance: random.Random
) -> Op:
    with_aliases = {
        label.alias_of for label in space.labels.values() if label.alias_of and not label.gone
    }
    if kind == "add_support":
        return {"label": chance.choice([*own]), "supports": fresh[: chance.randint(1, 3)]}
    if kind == "repair":
        name = chance.choice([n for n, label in own.items() if label.supports])
        return {
            "label": name,
            "supports": [min(space.labels[name].supports)],
            "index": chance.random() < 0.3,
        }
    if kind in ("remove_support", "restore_support"):
        part = "supports" if kind == "remove_support" else "hidden"
        name = chance.choice(
            [n for n, label in space.labels.items() if getattr(label, part) and not label.gone]
        )
        some = sorted(getattr(space.labels[name], part))
        return {"label": name, "supports": some[: chance.randint(1, len(some))]}
    if kind == "update_label":
        new = {"new": f"label {chance.getrandbits(40):010x}"} if chance.random() < 0.5 else {}
        return {"label": chance.choice([*own]), "text": chance.randrange(POOL)} | new
    if kind == "restore_label":
        return {"label": chance.choice([n for n, label in space.labels.items() if label.gone])}
    if kind == "unalias":
        return {
            "label": chance.choice(
                [n for n, label in space.labels.items() if label.alias_of and not label.gone]
            )
        }
    free = [n for n in own if n not in with_aliases]
    if kind == "alias":
        name = chance.choice(free)
        return {"label": name, "of": chance.choice([n for n in own if n != name])}
    return {"label": chance.choice(free)}  # remove_label, purge_label


def life(home: Path, seed: str, first: str) -> None:
    """Change at random, a thousand times; a change that was interrupted comes first."""
    # so that queries write snapshots in the background
    os.environ["TRUSTVLM_THRESHOLDS"] = '{"snapshot_rows": 30}'
    chance, state = random.Random(int(seed)), read_state(home)
    with trustvlm.open(home) as service:
        tell("R")
        for turn in range(1_000):
            op: Any = json.loads(first) if turn == 0 and first else None
            if (
                op is not None and op["op"] == "purge_label"
            ):  # its first half is done: the rest is a purge's
                label = state[op["space"]].labels.get(op["label"])
                op = op if label is not None and not label.gone else {"op": "purge"}
            if op is not None and op["op"] == "reembed":
                if op["space"] + BEFORE in state:  # its cut-over is done
                    op = op | {"op": "discard_old"}
                elif chance.random() < 0.3:
                    op = op | {"op": "abort"}
            if op is not None and op["op"] == "import" and op["space"] in state:
                op = None
            if op is None:
                op = chance_op(state, chance, home)
            perform(service, op)
            state = states_after(state, op)[-1]
    tell("E")


def upgrade(home: Path) -> None:
    """Upgrade one copy of the old catalog after the other, as `trustvlm db upgrade` does: after a
    backup."""
    from trustvlm.service.backup.backup import upgrade_home

    tell("R")
    for turn in range(100):
        place = home / f"copy {turn}"
        place.mkdir(exist_ok=True)
        shutil.copy(home / "old.sqlite3", place / CATALOG)
        tell(f"B {turn}")
        upgrade_home(place, place / CATALOG)
        tell("D")
    tell("E")


def make(home: Path, homes: str = "100") -> None:
    """Make one home after the other."""
    tell("R")
    for turn in range(int(homes)):
        tell(f"B {turn}")
        trustvlm.open(home / f"copy {turn}", create=True).close()
        tell("D")
    tell("E")


if __name__ == "__main__":
    target, what, *rest = sys.argv[1:]
    {"tour": tour, "random": life, "upgrade": upgrade, "create": make}[what](Path(target), *rest)
