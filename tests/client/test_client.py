"""The client answers as the library does: every verb against the service it talks to, every column,
every error."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from served_client import URL, application, awaited_client_of, client_of
from test_architecture import FILES, imports
from test_http_routes import picture
from test_promise import labelled
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries, errors
from trustvlm.client import Client, RequestSizes, transport
from trustvlm.demo.specs import classifier_spec, verifier_spec
from trustvlm.service.server.server_home import ServerHome
from trustvlm.testing import AsgiTransport
from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS
from trustvlm.types.messages.advised import placed_answer
from trustvlm.types.messages.commands import at


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with application(tmp_path / "home") as running:
        yield running


@pytest.fixture
def service(app: FastAPI) -> trustvlm.TrustService:
    found: trustvlm.TrustService = app.state.serving.service
    return found


@pytest.fixture(params=["blocking", pytest.param("asynchronous", marks=pytest.mark.slow)])
def client(app: FastAPI, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client, or an asynchronous one whose calls are awaited one by one."""
    with client_of(app) as opened:
        if request.param == "blocking":
            yield opened
            return
    with awaited_client_of(app) as bridge:
        yield bridge


def require_same(got: trustvlm.Verdicts, expected: trustvlm.Verdicts) -> None:
    """Equal to the last bit, and of the same types."""
    for name in VERDICT_COLUMNS:
        one, two = getattr(got, name), getattr(expected, name)
        assert (one.dtype, one.shape) == (two.dtype, two.shape), name
        np.testing.assert_array_equal(one, two, err_msg=name)
        if one.dtype == object and one.size:
            assert {type(value) for value in one.ravel()} == {
                type(value) for value in two.ravel()
            }, name
    for name in (*CALL_COLUMNS, "params"):
        assert getattr(got, name) == getattr(expected, name), name
    assert list(got.rows()) == list(expected.rows())
    some, others = got[::7], expected[::7]  # evidence is read again for each verdict
    assert [some.evidence(i) for i in range(len(some))] == [
        others.evidence(i) for i in range(len(others))
    ]
    assert list(some.rows(evidence=2)) == list(others.rows(evidence=2))


# Shape


def test_it_stands_on_the_lowest_row() -> None:
    """The client knows the dataclasses, the errors, the process plumbing and how folders are read,
    nothing else."""
    modules = {module for path in FILES if path.parent.name == "client" for module in imports(path)}
    rooms = {module.split(".")[1] for module in modules}
    assert rooms == {"client", "errors", "reading", "system", "types"}


def test_importing_is_light() -> None:
    heavy = ("torch", "faiss", "open_clip", "sqlalchemy", "fastapi", "starlette", "PIL")
    for statement, names in (
        ("import trustvlm", (*heavy, "httpx", "pydantic")),
        ("from trustvlm import Client", heavy),
    ):
        code = f"{statement}\nimport sys\nprint([name for name in {names} if name in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "127.0.0.1:8000"},
        {"url": "ftp://there"},
        {"url": "http://"},
        {"url": "http://there/?x=1"},
        {"url": None},
        {"key": "a\nb"},
        {"key": "ü"},
        {"key": " "},
        {"key": 7},
        {"timeout": 0},
        {"timeout": "1"},
        {"timeout": float("nan")},
        {"retries": -1},
        {"retries": 1.5},
    ],
)
def test_a_client_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(trustvlm.InvalidInput, match=f"^{next(iter(options))}: expected") as caught:
        Client(**{"url": "http://127.0.0.1:1"} | options)
    assert (
        str(options.get("key", "never shown")).strip() not in str(caught.value)
        or options.get("key") == " "
    )


# Spaces, labels, support images


def test_spaces(client: Client, service: trustvlm.TrustService) -> None:
    made = make_space(client, templates=("a {}.", "the {}."))
    assert made == service.get_space("s") == client.get_space("s")
    make_space(client, "other")
    assert list(client.list_spaces()) == list(service.list_spaces())
    assert client.remove_space("s") is None
    with pytest.raises(trustvlm.NotFound, match="no space 's'"):
        client.get_space("s")
    client.restore_space("s")
    assert client.get_space("s") == made
    for scale in ("x", float("nan"), [1]):
        with pytest.raises(trustvlm.InvalidInput):
            make_space(client, "x", logit_scale=scale)
    with pytest.raises(errors.Forbidden, match="serve_encoders"):
        client.create_space("x", classifier=classifier_spec())
    with pytest.raises(trustvlm.Conflict) as caught:
        make_space(client)
    assert caught.value.request_id
    assert caught.value.request_id in caught.value.__notes__[0]


def test_labels_and_support_images(
    client: Client, service: trustvlm.TrustService, world: World
) -> None:
    make_space(client)
    seen: list[list[str]] = []
    given = world.inputs(4)
    result = client.register("s", given, on_commit=seen.append)
    make_space(service, "local")
    local = service.register("local", given)
    assert replace(result, ids=(), label_ids=()) == replace(local, ids=(), label_ids=())
    assert (len(result.ids), len(result.label_ids)) == (24, 6)
    assert seen == [world.names]
    assert list(client.list_labels("s")) == list(service.list_labels("s"))
    assert client.list_supports("s", "beach") == service.list_supports("s", "beach")
    added = client.add_support(
        "s",
        "beach",
        image_vectors=world.supports(1, 2),
        classifier_image_vectors=np.ones((2, TEXT_DIM)),
    )
    assert (added.added_supports, added.label_ids) == (2, (result.label_ids[1],))
    assert (
        client.add_support("s", "beach", image_vectors=world.supports(1, 1)[0]).added_supports == 1
    )
    assert client.add_support("s", "beach").added_supports == 0
    assert client.thumbnail(added.ids[0]) is None
    assert client.thumbnail(10**9) is None
    assert client.remove_support("s", np.array(added.ids)) == service.get_space("s").revision
    with pytest.raises(trustvlm.NotFound):
        client.remove_support("s", [result.ids[0], added.ids[0]])  # one of them is gone: none goes
    assert client.restore_support("s", added.ids) == service.get_space("s").revision
    assert client.remove_support("s", []) == service.get_space("s").revision
    for wrong in ("x", [1.5], [[1]], [-1], [2**64]):
        with pytest.raises(trustvlm.InvalidInput):
            client.remove_support("s", wrong)  # type: ignore[arg-type]
    client.alias("s", "beach", "airport")
    assert {row.name: row.alias_of for row in client.list_labels("s")}["beach"] == "airport"
    client.unalias("s", "beach")
    client.remove_label("s", "beach", purge=True)
    with pytest.raises(trustvlm.NotFound, match="purged"):
        client.restore_label("s", "beach")


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".", "a?b#c%2F", "naïve 港口 🚢", "x" * 500, "restore", "a+b&c=d", "%00"]
)
def test_any_name_finds_its_label(
    client: Client, service: trustvlm.TrustService, name: str
) -> None:
    make_space(client)
    client.register(
        "s",
        [
            LabelInput(name, text_vector=np.ones(TEXT_DIM)),
            LabelInput("b", text_vector=-np.ones(TEXT_DIM)),
        ],
    )
    client.add_support("s", name, image_vectors=np.ones(IMAGE_DIM))
    assert [row.label for row in client.list_supports("s", name)] == [name]
    client.remove_label("s", name)
    client.restore_label("s", name)
    client.update_label("s", name, new_name="plain")
    assert [row.name for row in service.list_labels("s")] == ["plain", "b"]


def test_names_that_are_none(client: Client) -> None:
    make_space(client)
    with pytest.raises(trustvlm.NotFound):
        client.remove_label("s", "")
    with pytest.raises(trustvlm.NotFound):
        client.remove_label("s", "a\0b")
    with pytest.raises(trustvlm.InvalidInput, match="expected a name, got int"):
        client.remove_label("s", 7)  # type: ignore[arg-type]
    with pytest.raises(
        trustvlm.InvalidInput, match="names and options that an address can hold: URL too long"
    ):
        client.remove_label("s", "x" * 70_000)
    with pytest.raises(trustvlm.InvalidInput, match="surrogates not allowed"):
        client.score("s", trustvlm.Queries([[1.0] * 4]), rule="\ud800")


ONE = Queries(np.ones((1, TEXT_DIM)), np.ones((1, IMAGE_DIM)))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda verbs: verbs.unknown_labels("s", None), "names: expected label names, got None"),
        (lambda verbs: verbs.unknown_labels("s", "airport"), "names: expected label names"),
        (lambda verbs: verbs.list_supports("s", []), "expected a string, got list"),
        (lambda verbs: verbs.changes("s", cursor=[]), "cursor: expected"),
        (lambda verbs: verbs.review("s").items(cursor=np.zeros((0, 4))), "cursor: expected"),
        (lambda verbs: verbs.feedback("s", ONE, ["a"], sampling=None), "sampling: expected"),
        (lambda verbs: verbs.feedback("s", ONE, ["a"], sources=[]), "sources: expected 1 name"),
        (lambda verbs: verbs.calibrate("s", ONE, ["a"], max_risk=None), "max_risk: expected"),
        (lambda verbs: verbs.evaluate("s", ONE, ["a"], risk=[0.1]), "risk: expected"),
        *(
            (lambda verbs, wrong=wrong: verbs.register("s", [wrong], dry_run=True), text)
            for wrong, text in (
                (LabelInput("a", text_vector="x"), "label 'a': text_vector: expected real numbers"),
                (LabelInput("a", prompt=7), "label 'a': prompt: expected"),  # type: ignore[arg-type]
                (LabelInput("a", image_attributes=[{}]), "label 'a': image_attributes: expected"),
                (LabelInput("a "), "begins or ends with blanks"),
            )
        ),
    ],
)
def test_arguments_that_a_request_could_drop_are_refused(
    client: Client, service: trustvlm.TrustService, call: Any, named: str
) -> None:
    make_space(client)
    client.register("s", [LabelInput("a", np.ones(TEXT_DIM))])
    for verbs in (client, service):
        with pytest.raises(trustvlm.InvalidInput, match=named):
            call(verbs)


def test_pages_of_labels(client: Client, service: trustvlm.TrustService) -> None:
    make_space(client)
    names = [f"label {i:04d}" for i in np.random.default_rng(0).permutation(2_100)]
    rng = np.random.default_rng(1)
    service.register(
        "s", [LabelInput(name, text_vector=rng.normal(size=TEXT_DIM)) for name in names]
    )
    rows = list(client.list_labels("s"))
    assert rows == list(service.list_labels("s"))
    assert [row.name for row in rows] == names
    with pytest.raises(trustvlm.NotFound):  # now, not when the first row is asked for
        client.list_labels("nope")


# Queries


@pytest.mark.parametrize("rule", [None, "msp"])
def test_verdicts_are_equal_to_the_last_bit(
    client: Client, service: trustvlm.TrustService, world: World, rule: str
) -> None:
    make_space(client)
    client.register("s", [*world.inputs(4), LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
    client.register(
        "s",
        [
            LabelInput(
                "airfield", text_vector=world.text[0] + 0.01, image_vectors=world.supports(0, 1)
            )
        ],
    )
    client.alias("s", "airfield", "airport")
    queries = world.queries()
    queries = Queries(
        np.vstack([queries.classifier, np.ones(TEXT_DIM)]),
        np.vstack([queries.verifier, world.images[:1]]),
    )
    require_same(
        client.score("s", queries, rule=rule, top_k=3),
        service.score("s", queries, rule=rule, top_k=3),
    )
    single = Queries(np.float32(queries.classifier), np.float16(queries.verifier))
    require_same(client.score("s", single, rule=rule), service.score("s", single, rule=rule))
    for kind in ("support", "prototype", "text"):
        ours, theirs = (
            client.search("s", queries, kind=kind, k=40),
            service.search("s", queries, kind=kind, k=40),
        )
        for name in ("ids", "similarity", "labels", "sources"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        assert (ours.kind, ours.revision, list(ours.rows())) == (
            theirs.kind,
            theirs.revision,
            list(theirs.rows()),
        )


class Watched(AsgiTransport):
    """Calls `before` with the body of each request that scores, before it is sent."""

    def __init__(self, app: FastAPI, before: Callable[[bytes], None]) -> None:
        super().__init__(app)
        self._before = before

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/score"):
            self._before(request.read())
        return super().handle_request(request)


def test_many_queries_are_many_requests_at_one_revision(
    app: FastAPI, service: trustvlm.TrustService, world: World
) -> None:
    """The space changes after the first request: its part is requested again, and the call reads
    one state as always."""
    make_space(service)
    service.register("s", world.inputs(4))
    queries = world.queries(10)
    rows: list[int] = []

    def change_once(body: bytes) -> None:
        rows.append(len(np.load(io.BytesIO(body))["classifier"]))
        if len(rows) == 2:
            service.add_support("s", "beach", image_vectors=world.images[:1])

    sizes = RequestSizes(vector_bytes=20 * 8 * (TEXT_DIM + IMAGE_DIM))
    with Client(URL, transport=Watched(app, change_once), sizes=sizes) as client:
        verdicts = client.score("s", queries)
        assert rows == [20, 20, 20, 20]
        require_same(verdicts, service.score("s", queries))


def test_a_space_that_never_rests_is_busy(
    app: FastAPI, service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(4))

    def change(_: bytes) -> None:
        service.add_support("s", "beach", image_vectors=world.supports(1, 1))

    with (
        Client(URL, transport=Watched(app, change), sizes=RequestSizes(vector_bytes=1)) as client,
        pytest.raises(trustvlm.Busy, match="ask for fewer at once"),
    ):
        client.score("s", world.queries(1))


def test_evidence_is_of_the_verdicts_moment(
    client: Client, service: trustvlm.TrustService, world: World
) -> None:
    make_space(client)
    added = client.register("s", world.inputs(5))
    queries = Queries(world.text, world.images)
    verdicts, expected = client.score("s", queries), service.score("s", queries)
    client.alias("s", "beach", "airport")
    client.add_support("s", "airport", image_vectors=world.images[:1])
    client.remove_support("s", added.ids[10:13])
    for i in (2, 0, 1, 5, 3, 4, 2):  # in any order
        assert verdicts.evidence(i, k=4) == expected.evidence(i, k=4)
    with pytest.raises(trustvlm.InvalidInput, match="k: expected"):
        verdicts.evidence(0, k=0)
    with pytest.raises(IndexError):
        verdicts.evidence(6)
    service.purge(older_than=timedelta(0))
    with pytest.raises(trustvlm.Unavailable, match="purged"):
        verdicts.evidence(2, k=5)
    client.remove_space("s")
    make_space(client)
    with pytest.raises(trustvlm.Unavailable, match="re-embedded"):
        verdicts.evidence(0, k=5)


# Measuring


def test_measuring(client: Client, service: trustvlm.TrustService, world: World) -> None:
    make_space(client)
    client.register("s", world.inputs(5))
    queries, truth = labelled(world, 40)
    told = [None if i % 20 == 0 else name for i, name in enumerate(truth)]
    sources = [None if i % 3 == 0 else f"photo {i}.jpg" for i in range(40)]
    phases: list[str] = []
    ours = client.evaluate(
        "s",
        queries,
        told,
        sources=sources,
        rules=["msp", "posterior"],
        draws=1,
        progress=lambda job: phases.append(job.phase),
    )
    theirs = service.evaluate(
        "s", queries, told, sources=sources, rules=["msp", "posterior"], draws=1
    )
    assert phases[-1] == "done"
    with at(client.place):
        theirs = placed_answer(theirs)
    assert repr(asdict(ours)) == repr(asdict(theirs))  # NaN equals NaN there
    assert ours["msp"].aurc == theirs["msp"].aurc
    made = client.calibrate(
        "s", queries, told, max_risk=0.2, rule="posterior", params={"tau": 0.1}, sources=sources
    )
    assert made == service.list_calibrations("s")[0]
    assert (made.rule, made.params["tau"], made.max_risk) == ("posterior", 0.1, 0.2)
    assert client.feedback("s", world.queries(1), world.names, sampling="random").added == 6
    assert client.feedback("s", Queries(world.text[:1], world.images[:1]), "airport").added == 1
    assert client.project("s", limit=50) == service.project("s", limit=50)
    with at(client.place):
        watched = placed_answer(service.monitor("s", alpha=0.1))
    assert client.monitor("s", alpha=0.1) == watched
    assert client.list_calibrations("s") == service.list_calibrations("s") == [made]
    verdicts = client.score("s", queries)
    assert set(verdicts.accepted) == {True, False}
    require_same(verdicts, service.score("s", queries))


def test_jobs(client: Client, world: World) -> None:
    make_space(client)
    client.register("s", world.inputs(2))
    queries, truth = labelled(world, 20)
    client.evaluate("s", queries, truth, rules=["msp"], draws=0)
    (job,) = client.list_jobs()
    assert (job.kind, job.space, job.state, job.ended, job.result) == (
        "evaluate",
        "s",
        "done",
        True,
        None,
    )
    whole = client.get_job(job.id)
    assert whole.result is not None
    assert whole.result["images"] == 20
    assert client.wait_job(job.id, timeout=0.001) == whole
    assert client.cancel_job(job.id).state == "done"
    with pytest.raises(trustvlm.NotFound, match="no job"):
        client.wait_job("nope")
    with pytest.raises(trustvlm.NotFound, match="no label 'ghost'") as caught:
        client.evaluate("s", queries, ["ghost"] * 20)
    assert type(caught.value) is trustvlm.NotFound
    for truth_ in ("airport", [7] * 20, truth[:3]):
        with pytest.raises(trustvlm.InvalidInput, match="truth: expected"):
            client.evaluate("s", queries, truth_)  # type: ignore[arg-type]
    with pytest.raises(trustvlm.NotFound, match="no label ''"):
        client.evaluate("s", queries, [""] * 20)
    with pytest.raises(trustvlm.InvalidInput, match="rules: expected"):
        client.evaluate("s", queries, truth, rules=[])


# Images


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A service with the demo's models and the spaces "p", "q" of them."""
    specs = (classifier_spec(), verifier_spec())
    with application(tmp_path_factory.mktemp("pictures") / "home", encoders=specs) as app:
        for name in ("p", "q"):
            app.state.serving.service.create_space(name, classifier=specs[0], verifier=specs[1])
        yield app


def test_images_of_every_kind(
    pictured: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: trustvlm.TrustService = pictured.state.serving.service
    folder = tmp_path / "photos"
    folder.mkdir()
    files = [folder / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        file.write_bytes(picture(number))
    (folder / "torn.png").write_bytes(picture(1)[:100])
    bad = [folder / "torn.png", folder / "missing.png", folder]
    inputs = [
        LabelInput("one", images=[files[0], str(files[1]), *bad]),
        LabelInput("two", images=[files[2].read_bytes(), Image.open(files[3]), b""]),
        LabelInput("three", prompt="a photo of three things"),
        LabelInput("ghost", images=[folder / "missing.png"]),
        LabelInput(
            "four",
            text_vector=np.ones(64)[: service.get_space("p").classifier_dim],
            images=[files[4]],
        ),
    ]
    counted: list[int] = []
    names: list[list[str]] = []
    with client_of(pictured, sizes=RequestSizes(files=4)) as client:
        ours = client.register("p", inputs, progress=counted.append, on_commit=names.append)
        theirs = service.register("q", inputs)
        assert ours.near_synonyms == theirs.near_synonyms == ()
        assert sum(counted) == 10
        assert [name for group in names for name in group] == ["one", "one", "two", "three", "four"]
        assert (
            (ours.added_labels, ours.added_supports)
            == (theirs.added_labels, theirs.added_supports)
            == (4, 5)
        )
        assert [place < 0 for place in ours.label_ids] == [False, False, False, True, False]
        told = {source: reason for source, reason in ours.failures}
        assert set(told) == {str(path) for path in bad} | {"<bytes 2>"}
        assert told[str(folder / "missing.png")] == "cannot be read: No such file or directory"
        assert told[str(folder)] == "is a folder, not an image file"
        assert "damaged or truncated" in told[str(folder / "torn.png")]
        assert [row.source for row in client.list_supports("p", "one")] == ["0.png", "1.png"]
        nameless, named = (row.source for row in client.list_supports("p", "two"))
        assert (str(nameless)[:7], named) == ("<bytes ", "3.png")
        again = client.register("p", inputs[:2])
        assert (again.added_supports, again.skipped_duplicates) == (0, 4)
        thumbnail = client.thumbnail(ours.ids[0])
        assert thumbnail is not None
        assert thumbnail == service.thumbnail(ours.ids[0])
        queries = Queries(images=[files[5], files[6].read_bytes(), Image.open(files[7])])
        require_same(
            client.score("p", queries, rule="trustvlm"),
            service.score("p", queries, rule="trustvlm"),
        )
        found = client.search("p", Queries(images=[files[0]]), k=2)
        assert (found.labels[0, 0], found.sources[0, 0]) == ("one", "0.png")
        texts = Queries(text=["a photo of three things", "x"])
        np.testing.assert_array_equal(
            client.search("p", texts, kind="text", k=2).labels,
            service.search("p", texts, kind="text", k=2).labels,
        )
        with pytest.raises(
            trustvlm.InvalidInput, match=r"torn\.png: .*\(1 of 2 cannot be read; on"
        ):
            client.score("p", Queries(images=[files[0], bad[0]]))
        assert len(client.score("p", Queries(images=[]))) == 0
        unread = client.search("p", Queries(images=bad), on_error="skip", vectors=True)
        assert (len(unread), len(unread.failures)) == (0, 3)


def test_embedding_a_few_at_a_time(pictured: FastAPI) -> None:
    service: trustvlm.TrustService = pictured.state.serving.service
    images = (
        [picture(number) for number in range(4)]
        + [b"no image"]
        + [picture(number) for number in range(5, 8)]
    )
    with client_of(pictured, sizes=RequestSizes(embed_files=3)) as client:
        counted: list[int] = []
        ours, theirs = (
            client.embed("p", images, progress=counted.append),
            service.embed("p", images),
        )
    assert counted == [3, 3, 2]
    assert (ours.places, ours.failed, ours.sources) == (
        theirs.places,
        theirs.failed,
        theirs.sources,
    )
    assert [source for source, _ in ours.failures] == ["<bytes 4>"]
    for name in ("classifier", "verifier"):
        one, two = getattr(ours.queries, name), getattr(theirs.queries, name)
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_feedback_and_measuring_with_images(pictured: FastAPI) -> None:
    service: trustvlm.TrustService = pictured.state.serving.service
    with client_of(pictured, sizes=RequestSizes(files=2)) as client:
        client.register(
            "q",
            [LabelInput("red", images=[picture(100)]), LabelInput("blue", images=[picture(101)])],
        )
        images = Queries(images=[picture(number) for number in (110, 111, 112)])
        told = client.feedback("q", images, ["red", "blue", None], promote=True)
        assert (told.added, told.promoted, len(told.ids)) == (3, 2, 3)
        assert (
            service.feedback("q", images, ["red", "blue", None]).ids[2] == told.ids[2]
        )  # the same image
        assert client.thumbnail(client.list_supports("q", "red")[-1].id) is not None
        with pytest.raises(trustvlm.InvalidInput, match=r"nowhere\.png: cannot be read"):
            client.feedback("q", Queries(images=[picture(120), "nowhere.png"]), ["red", "red"])
        assert (
            client.add_support("q", "red", images=[picture(110), picture(130), b"?"]).added_supports
            == 1
        )
        nothing = client.add_support("q", "red", images=[b"?"])
        assert (nothing.added_supports, nothing.failures[0][0]) == (0, "<bytes 0>")
        more = Queries(images=[picture(number) for number in range(140, 150)])
        found = client.evaluate("q", more, ["red", "blue"] * 5, rules=["msp"], draws=0)
        assert (found.images, found.space) == (10, "q")


OTHERS = ("L", "LA", "RGB", "YCbCr", "HSV", "I", "PA")
MODES = [
    "1",
    "P",
    "RGBA",
    "CMYK",
    "F",
    "I;16",
    "La",
    *(pytest.param(mode, marks=pytest.mark.slow) for mode in OTHERS),
]


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_are_what_they_are(pictured: FastAPI, mode: str) -> None:
    service: trustvlm.TrustService = pictured.state.serving.service
    base = Image.open(io.BytesIO(picture(3)))
    if mode == "I;16":
        image = Image.fromarray((np.asarray(base.convert("L")).astype(np.uint16)) * 200)
    elif mode in ("La", "PA"):
        image = (
            base.convert("LA").convert(mode) if mode == "La" else base.convert("P").convert("PA")
        )
    else:
        image = base.convert(mode)
    assert image.mode == mode
    with client_of(pictured) as client:
        ours = client.embed("p", [image]).queries.verifier
    np.testing.assert_allclose(ours, service.embed("p", [image]).queries.verifier, atol=1e-4)


# Keys


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with application(tmp_path / "home", require_key=True) as app:
        service: trustvlm.TrustService = app.state.serving.service
        for name in ("s", "t"):
            service.create_space(name, classifier="precomputed:2")
            service.register(name, [LabelInput("a", text_vector=[1, 0], image_vectors=[[1, 0]])])
        reading, writing = (
            ServerHome(service).create_key("read")[1],
            ServerHome(service).create_key("write", space="s")[1],
        )
        with client_of(app) as client, pytest.raises(errors.Unauthorized, match="a key is needed"):
            client.get_space("s")
        monkeypatch.setenv("TRUSTVLM_KEY", reading)
        with client_of(app) as client:
            verdicts = client.score("t", Queries([[1.0, 0.1]]))
            assert verdicts.evidence(0).label[0].id == 2
            with pytest.raises(errors.Forbidden, match="scope 'write'"):
                client.remove_label("s", "a")
        with client_of(app, writing) as client:  # what is given wins
            assert [row.name for row in client.list_spaces()] == ["s"]
            client.add_support("s", "a", image_vectors=[[1, 1]])
            with pytest.raises(errors.Forbidden, match="'s' only"):
                client.get_space("t")


def test_decoding_knows_every_field() -> None:
    """A field that a dataclass has and an answer has not is an error where it has no default, and
    never a guess."""
    with pytest.raises(errors.Unavailable, match="revision"):
        transport.read(
            trustvlm.LabelRow, {"id": 1, "name": "a", "prompt": None, "support_count": 0}
        )
