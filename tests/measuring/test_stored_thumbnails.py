"""Small pictures of images whose true label is known: stored with them, handed out, deleted with
them."""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from http_service import Http, served
from PIL import Image
from raw_sql import run_sql
from served_client import application, client_of

import trustvlm
from trustvlm import InvalidInput, NotFound, Queries

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60)}


def picture(label: str, seed: int, size: int = 40) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 60, (size, size, 3))
    return Image.fromarray((np.array(COLOURS[label]) * 0.7 + noise).clip(0, 255).astype(np.uint8))


def jpeg_size(data: bytes | None) -> tuple[int, int]:
    assert data is not None
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.load()
        return image.size


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture
def home(tmp_path: Path, spec: str) -> Path:
    with trustvlm.open(tmp_path / "home", create=True, workers=0) as service:
        service.create_space("s", classifier=spec, verifier="same")
        service.register(
            "s", {label: [picture(label, 100), picture(label, 101)] for label in COLOURS}
        )
    return tmp_path / "home"


def images() -> tuple[list[Image.Image], list[str]]:
    truth = [label for label in COLOURS for _ in range(3)]
    return [picture(label, seed, 300) for seed, label in enumerate(truth)], truth


def of_space(service: trustvlm.TrustService) -> list[tuple[int, bool]]:
    """(observation, whether it has a thumbnail) of the stored images."""
    items = service.evaluate_stored("s", rules=["msp"], items=True).items
    assert items is not None
    return [(one.observation, one.pictured) for one in items]


def test_images_have_one_embeddings_none(home: Path) -> None:
    pictures, truth = images()
    with trustvlm.open(home) as service:
        service.calibrate("s", pictures, truth)
        stored = of_space(service)
        assert [pictured for _, pictured in stored] == [True] * 6
        assert jpeg_size(service.observation_thumbnail("s", stored[0][0])) == (128, 128)
        given = service.evaluate("s", pictures, truth, rules=["msp"], items=True, draws=0).items
        assert given is not None
        assert {(one.observation, one.pictured) for one in given} == {(None, False)}
        # By its embedding alone an image keeps the picture that it has.
        vectors = service.embed("s", pictures).queries
        bare = Queries(classifier=np.asarray(vectors.classifier)[:2])
        service.feedback("s", bare, truth[:2], sampling="random")
        assert [pictured for _, pictured in of_space(service)] == [True] * 6
        other = service.embed("s", [picture("red", 50)]).queries
        (number,) = service.feedback(
            "s", Queries(classifier=other.classifier), ["red"], sampling="random"
        ).ids
        assert service.observation_thumbnail("s", number) is None
        assert dict(of_space(service))[number] is False
        # What embed answers has thumbnails of its own.
        (again,) = service.feedback("s", other, ["red"], sampling="random").ids
        assert again == number
        assert jpeg_size(service.observation_thumbnail("s", number)) == (40, 40)
        assert service.observation_thumbnail("s", 10**6) is None
        with pytest.raises(NotFound, match="no space 't'"):
            service.observation_thumbnail("t", number)
        with pytest.raises(InvalidInput, match="observation"):
            service.observation_thumbnail("s", -1)
        for bad in (b"no picture", "text", 7):
            with pytest.raises(InvalidInput, match=r"queries\.thumbnails"):
                service.feedback(
                    "s", Queries(classifier=other.classifier, thumbnails=[bad]), ["red"]
                )
        with pytest.raises(InvalidInput, match=r"queries\.thumbnails: expected 1 "):
            service.feedback("s", Queries(classifier=other.classifier, thumbnails=[]), ["red"])


def test_they_are_deleted_copied_and_checked(home: Path, tmp_path: Path) -> None:
    pictures, truth = images()
    with trustvlm.open(home) as service:
        ids = service.feedback("s", pictures, truth, sampling="random", promote=True).ids
        assert service.observation_thumbnail("s", ids[0]) is not None
        service.backup(tmp_path / "archive.zip")
        promoted = [one.id for one in service.list_supports("s", "red") if one.id > 4]
        service.remove_support("s", promoted)
        assert service.observation_thumbnail("s", ids[0]) is not None, "it can still be restored"
        service.purge(older_than=timedelta(0))
        assert [service.observation_thumbnail("s", one) is None for one in ids] == [True] * 3 + [
            False
        ] * 3
        assert not service.verify().damage
    flip = run_sql(home, "SELECT count(*) FROM observations WHERE thumbnail IS NOT NULL")
    assert flip == [(3,)]
    run_sql(home, "UPDATE observations SET thumbnail = ? WHERE id = ?", b"\xff\xd8\xffbad", ids[4])
    with trustvlm.open(home) as service:
        report = service.verify()
        assert [(one.kind, one.row_id) for one in report.damage] == [("observation", ids[4])]
        assert "its thumbnail is no complete JPEG" in report.damage[0].problem
        assert service.verify(repair=True).repaired
        assert not service.verify().damage
    trustvlm_restored = tmp_path / "restored"
    restore(tmp_path / "archive.zip", trustvlm_restored)
    with trustvlm.open(trustvlm_restored) as service:
        assert jpeg_size(service.observation_thumbnail("s", ids[0])) == (128, 128)
        service.remove_space("s")
        service.purge(older_than=timedelta(0))
    assert run_sql(trustvlm_restored, "SELECT count(*) FROM observations") == [(0,)]


def restore(archive: Path, home: Path) -> None:
    from cli_runner import Cli

    Cli(home)("restore", archive)


def test_the_setting_keeps_none(home: Path) -> None:
    (home / "trustvlm.toml").write_text("observation_thumbnails = false\n")
    pictures, truth = images()
    with trustvlm.open(home) as service:
        service.calibrate("s", pictures, truth)
        ids = service.feedback("s", service.embed("s", pictures).queries, truth).ids
        assert {pictured for _, pictured in of_space(service)} == {False}
        assert service.observation_thumbnail("s", ids[0]) is None


@pytest.fixture
def http(home: Path) -> Iterator[Http]:
    with served(home) as running:
        yield running


def test_over_http(http: Http) -> None:
    pictures, truth = images()
    files = []
    for place, one in enumerate(pictures):
        out = io.BytesIO()
        one.save(out, "PNG")
        files.append(("images", (f"{place}.png", out.getvalue(), "image/png")))
    plain = http("POST", "/v1/spaces/s/embed", files=files)
    assert plain["thumbnails"] is None
    embedded = http("POST", "/v1/spaces/s/embed", files=files, data={"thumbnails": "true"})
    assert [jpeg_size(b64decode(one)) for one in embedded["thumbnails"]] == [(128, 128)] * 6
    body: dict[str, Any] = {"classifier": embedded["classifier"], "truth": truth}
    pictured = body | {"thumbnails": [*embedded["thumbnails"][:5], None]}
    http.job(http("POST", "/v1/spaces/s/calibrate", json=pictured, status=202))
    done = http.job(
        http("POST", "/v1/spaces/s/observations/evaluate", json={"items": True}, status=202)
    )
    items = done["result"]["items"]
    assert [one["pictured"] for one in items] == [True] * 5 + [False]
    first, last = (f"/v1/spaces/s/observations/{items[i]['observation']}/thumbnail" for i in (0, 5))
    found = http.ask("GET", first)
    assert found.headers["content-type"] == "image/jpeg"
    assert jpeg_size(found.content) == (128, 128)
    assert "no thumbnail of observation" in http("GET", last, status=404)["error"]["message"]
    assert http("GET", "/v1/spaces/t/observations/1/thumbnail", status=404)
    # A form's files are pictured; with a picture of something else it is refused.
    job = http("POST", "/v1/spaces/s/calibrate", files=files, data={"truth": truth}, status=202)
    http.job(job)
    assert {one for _, one in of_space(http.service)} == {True}
    for bad, status in ((["%%%"], 422), ([b64encode(b"x" * 50).decode()], 422)):
        wrong = {"classifier": body["classifier"][:1], "truth": truth[:1], "thumbnails": bad}
        assert (
            "thumbnails"
            in http.ask("POST", "/v1/spaces/s/feedback", json=wrong, status=status).text
        )
    assert "thumbnails" in http.ask("POST", "/v1/spaces/s/evaluate", json=pictured, status=422).text


def test_the_client(home: Path) -> None:
    pictures, truth = images()
    with application(home) as app, client_of(app) as client:
        ids = client.feedback("s", pictures, truth, sampling="random").ids
        assert jpeg_size(client.observation_thumbnail("s", ids[0])) == (128, 128)
        assert client.observation_thumbnail("s", 10**6) is None
        with pytest.raises(NotFound):
            client.observation_thumbnail("t", ids[0])
