"""Spaces as Parquet: the same bits in another home, readable by others, and no file that is not an
export becomes a space.

The children are real processes that run functions of this file (`python test_export.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import children
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_runner import Cli
from numbered import AT_ONCE, CLASSIFIER, VERIFIER, create, label, queries, require_equal, vectors
from raw_sql import run_sql
from thresholds import set_thresholds

import trustvlm
from trustvlm import LabelInput

pytestmark = pytest.mark.both_back_ends(slow=True)

FILES = ["labels.parquet", "manifest.json", "supports.parquet"]
OF_THE_FILE = "a file is read and refused alike wherever its rows go"
THUMBNAIL = b"\xff\xd8\xff\xe0 a picture \xff\xd9"


def content(home: Path, space: str) -> list[list[tuple[Any, ...]]]:
    """All that an export carries of a space, bit by bit."""
    alive = (
        "FROM spaces s JOIN labels l ON l.space_id = s.id {} WHERE s.name = ? AND "
        "s.removed_at IS NULL AND {} IS NULL"
    )
    label_columns = (
        "l.name, l.prompt, l.text_source, c.name, l.support_count, "
        "l.text_prototype, l.prototype, l.checksum"
    )
    support_columns = (
        "l.name, p.content_hash, p.source, p.embedding, p.classifier_embedding, t.jpeg, p.checksum"
    )
    canonical = alive.format("LEFT JOIN labels c ON c.id = l.alias_of", "l.removed_revision")
    pictured = "JOIN supports p ON p.label_id = l.id LEFT JOIN thumbnails t ON t.support_id = p.id"
    pins = (
        "classifier, verifier, classifier_identity, verifier_identity, classifier_golden, "
        "templates, logit_scale, recipe"
    )
    return [
        run_sql(home, f"SELECT {pins} FROM spaces WHERE name = ? AND removed_at IS NULL", space),
        run_sql(home, f"SELECT {label_columns} {canonical} ORDER BY l.id", space),
        run_sql(
            home,
            f"SELECT {support_columns} {alive.format(pictured, 'p.removed_revision')} ORDER BY "
            f"l.id, p.id",
            space,
        ),
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose space has aliases, classifier embeddings, pictures, sources and prompts; never
    changed by a test."""
    home = tmp_path_factory.mktemp("source") / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
        service.register("space", [label(number, supports=number % 4) for number in range(30)])
        other = vectors(7, n=3, dim=CLASSIFIER)
        seen = LabelInput(
            "Ähre “7”", label(1).text_vector, None, vectors(8, n=3, dim=VERIFIER), other
        )
        service.register("space", [seen])
        service.alias("space", label(3).name, label(2).name)
        service.alias("space", label(4).name, label(2).name)
        service.alias("space", label(5).name, label(8).name)
        service.remove_label("space", label(29).name)
        service.remove_support(
            "space", [row.id for row in service.list_supports("space", label(7).name)][:1]
        )
        create(service, "empty")
        service.create_space(
            "same", classifier="precomputed:8", templates=["a {}", "one {}."], recipe="flat-fp16"
        )
        service.register("same", [LabelInput("only", np.ones(8), image_vectors=np.eye(8)[:2])])
    # What only an encoder of images can make.
    run_sql(home, "INSERT INTO thumbnails SELECT id, ? FROM supports WHERE id % 3 = 0", THUMBNAIL)
    run_sql(home, "UPDATE supports SET source = 'a/picture ü.jpg' WHERE id % 2 = 0")
    run_sql(home, "UPDATE labels SET prompt = 'a tall {}', text_source = 'prompt' WHERE id % 5 = 1")
    return home


@pytest.fixture(scope="module")
def exported(source: Path) -> Path:
    folder = source.parent / "space"
    with trustvlm.open(source, read_only=True) as service:
        done = service.export_space("space", folder)
    assert (done.labels, done.revision) == (30, service_revision(source))
    return folder


def service_revision(home: Path) -> int:
    return int(run_sql(home, "SELECT revision FROM spaces WHERE name = 'space'")[0][0])


@pytest.fixture
def target(tmp_path: Path) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path / "target", create=True) as service:
        yield service


@pytest.mark.only_sqlite("two homes have a catalog each")
@pytest.mark.parametrize("group", [pytest.param(16 * 2**20, marks=pytest.mark.slow), 40_000])
def test_a_space_is_the_same_bit_by_bit_elsewhere(
    source: Path,
    target: trustvlm.TrustService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: int,
) -> None:
    """Every space, in one row group and in many: labels, vectors, thumbnails, aliases, encoders;
    the same verdicts."""
    monkeypatch.setenv("TRUSTVLM_THRESHOLDS", f'{{"export_group_bytes": {group}}}')
    with trustvlm.open(source, read_only=True) as service:
        for space in ("space", "empty", "same"):
            folder = tmp_path / space
            service.export_space(space, folder)
            assert sorted(path.name for path in folder.iterdir()) == FILES
            row = target.import_space(folder)
            assert content(tmp_path / "target", space) == content(source, space)
            assert (row.name, row.label_count) == (space, len(content(source, space)[1]))
            assert row.support_count == service.get_space(space).support_count
        if group < 2**20:
            assert pq.ParquetFile(tmp_path / "space" / "labels.parquet").num_row_groups > 2
            assert pq.ParquetFile(tmp_path / "space" / "supports.parquet").num_row_groups > 2
        for rule in (None, "msp", "trustvlm"):
            got, expected = (s.score("space", queries(), rule=rule) for s in (target, service))
            require_equal(got, expected, ids=False)
            assert got.tau == expected.tau
        text = trustvlm.Queries(classifier=queries().classifier)
        got, expected = (s.search("space", text, k=2).similarity for s in (target, service))
        np.testing.assert_allclose(got, expected, atol=1e-6)
    # It is a space like any other: registering goes on, duplicates are recognised, aliases can be
    # taken apart.
    again = target.register(
        "space", [label(number, supports=number % 4) for number in range(6, 12)]
    )
    assert (again.added_labels, again.added_supports) == (
        0,
        1,
    )  # the support image that was removed from label 7
    target.unalias("space", label(3).name)


@pytest.mark.only_sqlite(OF_THE_FILE)
def test_the_files_are_plain_parquet(exported: Path) -> None:
    """Column types, the space's description in the metadata, and vectors as others read them."""
    labels, supports = (
        pq.read_table(exported / name) for name in ("labels.parquet", "supports.parquet")
    )
    assert labels.schema.field("text_prototype").type == pa.list_(pa.float32(), CLASSIFIER)
    assert supports.schema.field("embedding").type == pa.list_(pa.float32(), VERIFIER)
    described = json.loads(labels.schema.metadata[b"trustvlm"])
    assert described["templates"] == ["a photo of a {}."]
    assert described["classifier_identity"]
    assert described["logit_scale"] == 10.0
    names = labels.column("name").to_pylist()
    assert (
        dict(zip(names, labels.column("alias_of").to_pylist(), strict=True))[label(3).name]
        == label(2).name
    )
    matrix = (
        supports.column("embedding").combine_chunks().flatten().to_numpy().reshape(-1, VERIFIER)
    )
    owners = np.array(supports.column("label").to_pylist())
    expected = np.asarray(label(6, supports=2).image_vectors)
    np.testing.assert_array_equal(matrix[owners == label(6).name], expected)
    assert set(supports.column("thumbnail").to_pylist()) == {None, THUMBNAIL}
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["files"]["labels.parquet"]["rows"] == len(names)


def test_an_export_is_of_one_revision(home: Path, tmp_path: Path) -> None:
    """Labels come and go while it runs: it is what the space was when it began."""
    set_thresholds(home, transaction_labels=3)
    before = content(home, "space")
    with trustvlm.open(home) as service, trustvlm.open(home) as writer:
        number = iter(range(100, 200))

        def write(_: int) -> None:
            writer.register("space", [label(next(number))])
            writer.remove_label("space", next(iter(writer.list_labels("space"))).name)

        service.export_space("space", tmp_path / "out", progress=write)
        service.import_space(tmp_path / "out", name="copy")
    assert content(home, "copy") == before
    assert content(home, "space") != before


def test_an_import_is_seen_when_it_is_whole(exported: Path, tmp_path: Path) -> None:
    """Until the last chunk no verb knows the space; then the epoch has changed, and the space can
    be scored."""
    home = tmp_path / "target"
    set_thresholds(home, transaction_labels=7)
    seen: list[int] = []
    with trustvlm.open(home, create=True) as target, trustvlm.open(home) as watcher:
        epoch = run_sql(home, "SELECT epoch FROM catalog_state")

        def look(number: int) -> None:
            seen.append(number)
            assert list(watcher.list_spaces()) == []
            watcher.purge(older_than=AT_ONCE)  # not even this touches it
            with pytest.raises(trustvlm.NotFound):
                watcher.restore_space("space")

        target.import_space(exported, progress=look)
        assert seen == [7, 7, 7, 7, 2]
        assert [row.name for row in watcher.list_spaces()] == ["space"]
        watcher.score("space", queries())
    assert run_sql(home, "SELECT epoch FROM catalog_state") != epoch


def test_names_and_places(source: Path, exported: Path, tmp_path: Path) -> None:
    """A name that is taken is a Conflict, found before anything is written; a folder that is there
    is left alone."""
    cli = Cli(tmp_path / "home")
    assert cli("import", exported) == "imported space space: 30 labels, 44 support images\n"
    assert "exists already" in cli("import", exported, code=4)
    cli("import", exported, "--as", "other")
    assert "holds '/'" in cli("import", exported, "--as", "a/b", code=2)
    assert [row["name"] for row in cli.rows("space", "list")] == ["other", "space"]
    cli("space", "remove", "space", "--yes")
    cli("import", exported)
    out = cli("export", "other", tmp_path / "out")
    assert (
        out
        == f"exported space other at revision 2, 30 labels, 44 support images: {tmp_path / 'out'}\n"
    )
    assert "exists already" in cli("export", "other", tmp_path / "out", code=4)
    assert "no space" in cli("export", "nothing", tmp_path / "out2", code=3)
    assert "no folder" in cli("export", "other", tmp_path / "missing" / "out", code=3)
    assert "is no folder" in cli("import", tmp_path / "missing", code=3)
    assert "is missing" in cli("import", source, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_two_spellings_of_a_name_are_one_space(exported: Path, tmp_path: Path) -> None:
    """Also where the manifest is from before names were normalised."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    older = shutil.copytree(exported, tmp_path / "older")
    manifest = json.loads((older / "manifest.json").read_text())
    (older / "manifest.json").write_text(json.dumps(manifest | {"name": decomposed}))
    with trustvlm.open(tmp_path / "home", create=True) as service:
        assert service.import_space(older).name == composed
        with pytest.raises(trustvlm.Conflict, match="exists already"):
            service.import_space(older)
        with pytest.raises(trustvlm.Conflict, match="exists already"):
            service.import_space(exported, name=decomposed)


def import_slowly(home: str, folder: str) -> None:
    """Child: import in chunks of one label, and stand still after the tenth."""
    set_thresholds(Path(home), transaction_labels=1)
    left = 10

    def wait(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(1, b"ten\n")
            time.sleep(60)

    with trustvlm.open(home, create=True) as service:
        service.import_space(folder, progress=wait)


def test_a_killed_import_leaves_no_space(exported: Path, tmp_path: Path) -> None:
    """Ten labels are in, and durable, but no space is there; the import can be begun anew, and the
    rest is purged in time."""
    home = tmp_path / "home"
    child = children.start(import_slowly, home, exported)
    assert child.stdout.readline() == "ten\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert len(run_sql(home, "SELECT id FROM labels")) == 10
    with trustvlm.open(home) as service:
        assert list(service.list_spaces()) == []
        service.import_space(exported)
        assert len(list(service.list_labels("space"))) == 30
        service.purge(older_than=AT_ONCE)
        assert len(run_sql(home, "SELECT id FROM spaces")) == 2
        # A week and an undo window later.
        run_sql(
            home,
            "UPDATE spaces SET removed_at = '2020-01-01 00:00:00' WHERE removed_at IS NOT NULL",
        )
        service.purge(older_than=AT_ONCE)
    assert len(run_sql(home, "SELECT id FROM labels")) == 30
    assert run_sql(home, "SELECT name FROM spaces") == [("space",)]


# Files that are no exports


class Forgery:
    """An export whose manifest tells the truth about its files, whatever they hold."""

    def __init__(self, exported: Path, folder: Path) -> None:
        self.folder = Path(shutil.copytree(exported, folder))
        self.manifest = json.loads((folder / "manifest.json").read_text())

    def table(self, name: str) -> Any:
        return pq.read_table(self.folder / f"{name}.parquet")

    def write(self, name: str, table: Any, **options: Any) -> None:
        options = {"compression": "none", "use_dictionary": False} | options
        pq.write_table(table, self.folder / f"{name}.parquet", **options)

    def put(self, name: str, column: str, change: Callable[[list[Any]], object]) -> None:
        """Change the values of one column in place."""
        table = self.table(name)
        values = table.column(column).to_pylist()
        change(values)
        field = table.schema.field(column)
        self.write(
            name,
            table.set_column(
                table.schema.get_field_index(column), field, pa.array(values, field.type)
            ),
        )

    def seal(self) -> None:
        for name, facts in self.manifest["files"].items():
            if (self.folder / name).is_file() and name.endswith(".parquet"):
                found = (self.folder / name).read_bytes()
                facts |= {"size": len(found), "sha256": hashlib.sha256(found).hexdigest()}
                with suppress(pa.ArrowException, OSError):
                    facts["rows"] = pq.ParquetFile(self.folder / name).metadata.num_rows
        (self.folder / "manifest.json").write_text(json.dumps(self.manifest))


def at(place: int, value: Any) -> Callable[[list[Any]], None]:
    return lambda values: values.__setitem__(place, value)


def of(name: str, column: str, change: Callable[[list[Any]], object]) -> Callable[[Forgery], None]:
    return lambda forgery: forgery.put(name, column, change)


def stated(**values: Any) -> Callable[[Forgery], None]:
    return lambda forgery: forgery.manifest.update(values)


def widen(values: list[Any]) -> None:
    values[0] = [float("nan"), *values[0][1:]]


UNIT = [1.0] + [0.0] * (VERIFIER - 1)
FORGERIES: dict[str, tuple[Callable[[Forgery], object], str]] = {
    "name with a line break": (of("labels", "name", at(0, "a\nb")), "U\\+000A"),
    "name twice": (of("labels", "name", at(1, label(0).name)), "out of order|comes twice"),
    "long name": (of("labels", "name", at(0, "x" * 10**6)), "at most 500"),
    "unknown source of a text": (of("labels", "text_source", at(1, "guess")), "text_source"),
    "prompt without its source": (of("labels", "prompt", at(1, "a {}")), "text_source"),
    "alias of nothing": (of("labels", "alias_of", at(3, "nobody")), "alias of 'nobody'"),
    "alias of an alias": (of("labels", "alias_of", at(6, label(3).name)), "states?d|alias of"),
    "alias too many": (of("labels", "alias_of", at(9, label(10).name)), "a prototype goes with"),
    "alias of itself": (of("labels", "alias_of", at(3, label(3).name)), "alias of"),
    "another prototype": (
        of("labels", "prototype", at(1, UNIT)),
        "not the one that its support images give",
    ),
    "another count": (
        of("labels", "support_count", at(1, 7)),
        "not the one that its support images give",
    ),
    "no prototype": (of("labels", "prototype", at(1, None)), "a prototype goes with"),
    "prototype without images": (of("labels", "prototype", at(0, UNIT)), "a prototype goes with"),
    "text that is no unit vector": (
        of("labels", "text_prototype", lambda v: at(0, [2 * x for x in v[0]])(v)),
        "no unit vector",
    ),
    "embedding with NaN": (of("supports", "embedding", widen), "NaN"),
    "another embedding": (
        of("supports", "embedding", at(0, UNIT)),
        "not the one that its support images give",
    ),
    "vector with an empty place": (
        of("supports", "embedding", at(0, [None, *UNIT[1:]])),
        "empty places",
    ),
    "support image of nobody": (of("supports", "label", at(0, "nobody")), "out of order"),
    "support images out of order": (of("supports", "label", lambda v: v.reverse()), "out of order"),
    "support image twice": (
        of("supports", "content_hash", lambda v: at(1, v[2])(v)),
        "one support image twice",
    ),
    "thumbnail that is no JPEG": (
        of("supports", "thumbnail", at(0, b"<svg onload=alert(1)>")),
        "JPEG",
    ),
    "thumbnail of 2 MB": (
        of("supports", "thumbnail", at(0, b"\xff\xd8\xff" + bytes(2 * 10**6))),
        "JPEG",
    ),
    "source of 1 MB": (of("supports", "source", at(0, "x" * 10**6)), "at most 10000"),
    "a column less": (
        lambda f: f.write("labels", f.table("labels").drop_columns(["prompt"])),
        "exactly the columns",
    ),
    "other numbers": (
        stated(verifier_dim=VERIFIER + 1, verifier=f"precomputed:{VERIFIER + 1}"),
        "exactly the columns",
    ),
    "compressed": (
        lambda f: f.write("supports", f.table("supports"), compression="zstd"),
        "uncompressed",
    ),
    "no Parquet": (
        lambda f: (f.folder / "labels.parquet").write_bytes(b"PAR1 hello PAR1"),
        "no sound Parquet",
    ),
    "a later version": (stated(version=2), "version: "),
    "something else": (stated(format="holidays"), "format: .*trustvlm-space"),
    "another field": (stated(colour="red"), "colour"),
    "unknown recipe": (stated(recipe="../../etc/passwd"), "recipe"),
    "unknown encoder": (stated(classifier="os.system:1"), "encoder spec"),
    "encoder without a text side": (
        stated(classifier=f"timm:x@{'/x'}"),
        "text_prototype|open_clip, transformers, precomputed or external",
    ),
    "dimension that does not fit": (stated(classifier_dim=7), "does not fit"),
    "dimension as text": (stated(classifier_dim="32"), "classifier_dim"),
    "enormous dimension": (stated(verifier_dim=10**9, verifier="timm:x"), "verifier_dim"),
    "identity": (stated(classifier_identity="\n"), "identity"),
    "golden": (stated(classifier_golden="AAAA"), "golden"),
    "golden that is no base64": (stated(classifier_golden="…"), "manifest.json"),
    "scale": (stated(logit_scale=-1), "logit_scale"),
    "scale as text": (stated(logit_scale="100"), "logit_scale"),
    "templates": (stated(templates=["no place"]), "templates"),
    "no templates": (stated(templates=None), "templates"),
    "space name": (stated(name="a/b"), "'/'"),
    "more files": (
        lambda f: f.manifest["files"].update({"../x": f.manifest["files"]["labels.parquet"]}),
        "expected labels",
    ),
    "rows as text": (
        lambda f: f.manifest["files"]["labels.parquet"].update(rows="1"),
        "manifest.json",
    ),
}


OFTEN = {
    "name with a line break", "alias of nothing", "another prototype",
    "text that is no unit vector", "embedding with NaN", "vector with an empty place",
    "support images out of order", "support image twice", "thumbnail that is no JPEG",
    "a column less", "compressed", "no Parquet",
}  # fmt: skip
"""Of the lies in the Parquet files, which take a process each to find; the others are slow tests."""


def marked() -> list[Any]:
    names = list(FORGERIES)
    manifest = names[names.index("a later version") :]
    return [
        name if name in OFTEN or name in manifest else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustvlm.TrustService]:
    """A home that takes in nothing."""
    with trustvlm.open(tmp_path_factory.mktemp("refusing") / "target", create=True) as service:
        yield service


def require_refused(target: trustvlm.TrustService, folder: Path, why: str) -> None:
    """InvalidInput in one line that says `why`, and not a row of it is left."""
    with pytest.raises(trustvlm.InvalidInput, match=why) as caught:
        target.import_space(folder)
    assert len(str(caught.value).splitlines()) == 1
    home = target._home.folder
    assert [
        run_sql(home, f"SELECT count(*) FROM {name}")
        for name in ("spaces", "labels", "supports", "thumbnails")
    ] == [[(0,)]] * 4


@pytest.mark.only_sqlite(OF_THE_FILE)
@pytest.mark.parametrize("what", marked())
def test_a_forged_export_is_refused(
    exported: Path, refusing: trustvlm.TrustService, tmp_path: Path, what: str
) -> None:
    forge, why = FORGERIES[what]
    forgery = Forgery(exported, tmp_path / "forged")
    if what == "rows as text":
        forgery.seal()
        forge(forgery)
        (forgery.folder / "manifest.json").write_text(json.dumps(forgery.manifest))
    else:
        forge(forgery)
        forgery.seal()
    require_refused(refusing, forgery.folder, why)


@pytest.mark.only_sqlite(OF_THE_FILE)
def test_a_forgery_without_a_lie_is_imported(
    exported: Path, target: trustvlm.TrustService, tmp_path: Path
) -> None:
    """So that the refusals above are for the lies, not for the forging."""
    forgery = Forgery(exported, tmp_path / "forged")
    forgery.put("labels", "name", lambda values: None)
    forgery.put("supports", "embedding", lambda values: None)
    forgery.seal()
    assert target.import_space(forgery.folder).label_count == 30


@pytest.mark.only_sqlite(OF_THE_FILE)
def test_more_rows_than_fit_in_the_file(
    exported: Path, target: trustvlm.TrustService, tmp_path: Path
) -> None:
    """A dictionary-encoded column repeats one vector without end in little room: refused before it
    is read."""
    forgery = Forgery(exported, tmp_path / "forged")
    table = forgery.table("supports").slice(0, 1)
    many = pa.concat_tables([table] * 1_000).combine_chunks()
    many = pa.concat_tables([many] * 100)
    forgery.write("supports", many, use_dictionary=True, row_group_size=100_000)
    forgery.seal()
    assert (forgery.folder / "supports.parquet").stat().st_size < 4 * VERIFIER * many.num_rows / 4
    require_refused(target, forgery.folder, "do not fit")


@pytest.mark.only_sqlite(OF_THE_FILE)
def test_every_byte_counts(exported: Path, target: trustvlm.TrustService, tmp_path: Path) -> None:
    """A file that was altered, cut off or extended after the export does not match its manifest."""
    folder = Path(shutil.copytree(exported, tmp_path / "spoilt"))
    chance = random.Random(1)
    for name in FILES:
        content = (exported / name).read_bytes()
        spoilt = [content[:-1], content + b" ", content[: len(content) // 2], b""]
        for position in chance.sample(range(len(content)), 25):
            altered = bytearray(content)
            altered[position] ^= 1 << chance.randrange(8)
            spoilt.append(bytes(altered))
        for wrong in spoilt if name != "manifest.json" else spoilt[2:4]:
            (folder / name).write_bytes(wrong)
            require_refused(target, folder, r"manifest|cut off or altered")
        (folder / name).write_bytes(content)


@pytest.mark.only_sqlite(OF_THE_FILE)
@pytest.mark.parametrize("times", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_or_read(
    exported: Path, target: trustvlm.TrustService, tmp_path: Path, times: int
) -> None:
    """Bytes changed and the checksums made to fit: InvalidInput or a space, never anything else,
    within seconds.

    pyarrow ends the process over some of them; the process that it ends is a child of ours.
    """
    forgery = Forgery(exported, tmp_path / "mutated")
    chance = random.Random(times)
    refused: list[str] = []
    for _ in range(times):
        name = chance.choice(["labels.parquet", "supports.parquet"])
        content = bytearray((exported / name).read_bytes())
        tail = chance.random() < 0.7  # most of what can go wrong is in the description at the end
        for _ in range(chance.randint(1, 4)):
            first = max(0, len(content) - 3_000) if tail else 0
            content[chance.randrange(first, len(content))] = chance.randrange(256)
        (forgery.folder / name).write_bytes(content)
        forgery.manifest["files"][name] |= {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        (forgery.folder / "manifest.json").write_text(json.dumps(forgery.manifest))
        began = time.monotonic()
        try:
            target.import_space(forgery.folder, name=f"{time.monotonic_ns()}")
        except trustvlm.InvalidInput as error:
            refused.append(str(error))
        assert time.monotonic() - began < 15
        shutil.copy(exported / name, forgery.folder / name)
        forgery.manifest = json.loads((exported / "manifest.json").read_text())
    assert len(refused) > times // 5
    assert all(len(message.splitlines()) == 1 for message in refused)


@pytest.mark.only_sqlite(OF_THE_FILE)
def test_a_reader_that_cannot_start_is_no_fault_of_the_file(
    exported: Path, target: trustvlm.TrustService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\nkill -ABRT $$\n")
    dies.chmod(0o755)
    with monkeypatch.context() as patched:
        for executable, why in ((dies, "SIGABRT"), (tmp_path / "missing", "can be started")):
            patched.setattr(sys, "executable", str(executable))
            with pytest.raises(trustvlm.Unavailable, match=why):
                target.import_space(exported)
    assert target.import_space(exported).label_count == 30


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
