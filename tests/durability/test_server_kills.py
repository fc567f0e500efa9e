"""Clients of a catalog in PostgreSQL that are killed at every named step of work that takes several
transactions: imports, re-embeddings, and what `trustvlm serve` keeps. The next client finishes it;
what was acknowledged is there."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import children
import numpy as np
import postgres
import pytest
from numbered import create, label, queries, require_equal, text, vectors

import trustvlm
from trustvlm import TrustService, Verdicts
from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.service.server.server_home import ServerHome

CHANGES = [
    *("import.begin", "import.chunk", "import.reveal", "import.discard"),
    *("reembed.begin", "reembed.stage", "reembed.follow", "reembed.cut_over"),
    *("reembed.drop", "key", "call", "job"),
]
"""All but reembed.carry: it embeds stored images again, which needs a model."""

POINTS = [f"{change}.{step}" for change in CHANGES for step in ("written", "committed")]
LABELS = 12
PATIENCE_S = 300


def import_it(service: TrustService) -> None:
    with suppress(trustvlm.Conflict):  # it is in already
        service.import_space(service._home.folder / "exported", name="copy")


def import_beside_another(service: TrustService) -> None:
    """A name is taken before the import is in: what is in of it is deleted again."""
    taken = [space.name for space in service.list_spaces() if space.name == "taken"]
    begun = [bool(taken)]

    def take(_: int) -> None:
        if not begun[0]:
            begun[0] = True
            create(service, "taken")

    with suppress(trustvlm.Conflict):
        service.import_space(service._home.folder / "exported", name="taken", progress=take)


def reembed(service: TrustService) -> None:
    """All labels get other vectors; one is registered while the work is under way."""
    if service.get_space("space").classifier != "precomputed:32":
        return
    late = label(50)

    def meanwhile(*_: int) -> None:
        with suppress(trustvlm.Conflict):
            service.register("space", [late])

    names = [label(number).name for number in range(LABELS)]
    texts = {name: text(number, 1) for number, name in enumerate(names)}
    images = {
        row.id: vectors(row.id, n=1, dim=64)[0]
        for name in names
        for row in service.list_supports("space", name)
    }
    with suppress(trustvlm.NotFound):
        service.remove_label("space", late.name)
    service.reembed_space(
        "space", classifier="precomputed:32:new", verifier="precomputed:64:new",
        text_vectors=texts, image_vectors=images, progress=meanwhile, drop_missing=True,
    )  # fmt: skip


def other_templates(service: TrustService) -> None:
    if service.get_space("copy").templates != ("another {}",):
        service.reembed_space("copy", templates=["another {}"])


def discard(service: TrustService) -> None:
    for name in ("space", "copy"):
        with suppress(trustvlm.NotFound):  # discarded already
            service.discard_old(name)
    service.purge(older_than=timedelta(0))


def keys(service: TrustService) -> None:
    """Each key that is told opens; one that was rotated or revoked does not."""
    server = ServerHome(service)
    first, _ = server.create_key("write")
    second, key = server.rotate_key(first.id)
    children.tell(f"key {key}")
    gone, _ = server.create_key("read")
    assert server.revoke_key(gone.id)
    children.tell(f"gone {first.id} {gone.id}")
    assert second.state == "valid"


def calls(service: TrustService) -> None:
    """A call is answered, and a job ends: that of a process that was killed is taken over."""
    server = ServerHome(service)
    worker = server.worker()
    try:
        done = server.begin_call("owner", "call", b"request", worker)
        if done is None:
            server.end_call("owner", "call", 200, b"{}")
        now = datetime.now(UTC)
        name = f"job {now.timestamp()}"
        server.create_job(
            JobRecord(
                name, "evaluate", "space", "owner", worker.id, "running", "", 0, None, False, None,
                None, now, now,
            )
        )  # fmt: skip
        children.tell(f"begun {name}")
        server.change_job(name, state="done")
        children.tell(f"ended {name}")
        server.sweep()
        server.end_orphans(worker, {})
    finally:
        worker.close()


STEPS: tuple[Callable[[TrustService], None], ...] = (
    import_it, import_beside_another, reembed, other_templates, discard, keys, calls,
)  # fmt: skip


# Children


def work(home: str) -> None:
    """All steps, each of which goes on where a killed process left it."""
    with trustvlm.open(home, create=True) as service:
        for step in STEPS:
            step(service)
            children.tell(f"done {step.__name__}")


# Tests


def undisturbed_work(home: Path) -> list[str]:
    """All steps in a process that nobody kills; what it told."""
    child = children.start(work, home)
    told = child.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert child.returncode == 0
    return told


def filled(home: Path) -> None:
    """A space, with images whose true label is known, and its export."""
    with trustvlm.open(home, create=True) as service:
        create(service)
        service.register("space", [label(number) for number in range(LABELS)])
        numbers = np.arange(200) % LABELS
        given = np.array([text(number) for number in numbers]) + 0.1 * vectors(9, n=200, dim=32)
        truth = [label(number).name for number in numbers]
        shown = trustvlm.Queries(given, vectors(8, n=200, dim=64))
        service.calibrate("space", shown, truth, rule="msp", max_risk=0.2)
        service.export_space("space", home / "exported")


def facts(service: TrustService) -> dict[str, object]:
    """What a user sees of the catalog."""
    spaces = [space.name for space in service.list_spaces()]
    return {
        name: (
            service.get_space(name).classifier,
            service.get_space(name).templates,
            sorted((row.name, row.support_count) for row in service.list_labels(name)),
        )
        for name in spaces
    }


def answers(service: TrustService) -> list[Verdicts]:
    return [service.score(name, queries(8)) for name in ("space", "copy")]


@pytest.fixture(scope="module")
def template(
    postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A home whose filled catalog is the database "filled"; both are copied."""
    home = tmp_path_factory.mktemp("filled") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTVLM_DATABASE_URL", postgres_server.create("filled", "head"))
        filled(home)
    yield home
    postgres_server.drop("filled")


@pytest.fixture
def struck(
    postgres_server: postgres.Server,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Path]:
    """A home on a filled catalog, which its children open, too."""
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", postgres_server.create("kills", "filled"))
    yield Path(shutil.copytree(template, tmp_path / "home"))
    postgres_server.drop("kills")


@pytest.fixture(scope="module")
def undisturbed(
    postgres_server: postgres.Server, template: Path
) -> Iterator[tuple[dict[str, object], list[Verdicts]]]:
    """What a user sees after all steps of a process that nobody kills."""
    home = Path(shutil.copytree(template, template.with_name("undisturbed")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTVLM_DATABASE_URL", postgres_server.create("undisturbed", "filled"))
        undisturbed_work(home)
        with trustvlm.open(home) as service:
            assert set(facts(service)) == {"space", "copy", "taken"}
            yield facts(service), answers(service)
    shutil.rmtree(home)
    postgres_server.drop("undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_the_next_client_finishes_what_a_killed_one_began(
    point: str,
    undisturbed: tuple[dict[str, object], list[Verdicts]],
    struck: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as fault:
        fault.setenv("TRUSTVLM_FAULT", f"{point}:1:kill")
        child = children.start(work, struck)
        told = child.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert child.returncode == -signal.SIGKILL
    with trustvlm.open(struck) as service:
        assert service.verify().clean
        require_acknowledged(service, told)
    rest = undisturbed_work(struck)
    assert [line for line in rest if line.startswith("done")] == [
        f"done {step.__name__}" for step in STEPS
    ]
    with trustvlm.open(struck) as service:
        assert service.verify().clean
        require_acknowledged(service, [*told, *rest])
        expected, verdicts = undisturbed
        assert facts(service) == expected
        for got, wanted in zip(answers(service), verdicts, strict=True):
            require_equal(got, wanted, ids=False)


def require_acknowledged(service: TrustService, told: list[str]) -> None:
    """Keys open or not, and jobs are in the state that a process was told before it was killed."""
    server = ServerHome(service)
    states = {row.id: row.state for row in server.list_keys()}
    for kind, *words in map(str.split, told):
        if kind == "key":
            assert server.use_key(words[0]) is not None
        elif kind == "gone":
            assert not [one for one in words if states[one] == "valid"]
        elif kind == "ended":
            assert server.get_job(" ".join(words)).state == "done"
        elif kind == "begun":
            assert server.get_job(" ".join(words)).state in ("running", "done", "failed")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
