"""Folders with links, devices and depths, files of names, archives of arrays that lie: one sentence
each, nothing written."""

from __future__ import annotations

import io
import os
import pickle
import re
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from fuzz.seeds import npy, picture, saved

from trustvlm.cli.reading import arrays, npz
from trustvlm.errors import InvalidInput
from trustvlm.reading import images
from trustvlm.reading.labelled import label_folders

TRAP: list[str] = []


def spring() -> None:
    TRAP.append("sprung")


class Trap:
    """Unpickling this leaves a mark."""

    def __reduce__(self) -> Any:
        return (spring, ())


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A home for all tests of this file: what is refused leaves its space "s" as empty as it
    was."""
    cli = Cli(tmp_path_factory.mktemp("hostile") / "home")
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    return cli


# Folders


def strange_folder(folder: Path) -> list[socket.socket]:
    """Two labels; around their three pictures, everything that is none."""
    image = saved(picture(), "PNG")
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(image)
    (folder / "dog" / "2.png").write_bytes(saved(picture(20, 20), "PNG"))
    (folder.parent / "outside.png").write_bytes(saved(picture(24, 20), "PNG"))
    (folder / "dog" / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "cat" / "secret.png").symlink_to("/etc/passwd")
    (folder / "cat" / "dangling.png").symlink_to("nowhere")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    (folder / "cat" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "cat" / "pipe.png")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(folder / "cat" / "socket.png"))
    (folder / "cat" / ".hidden.png").write_bytes(image)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "cat" / "inner.zip").write_bytes(b"PK\3\4")
    (folder / "up").symlink_to(folder)
    (folder / "self").symlink_to("self")
    (folder / ".git").mkdir()
    return [listener]


def test_a_folder_of_strange_files(cli: Cli, tmp_path: Path) -> None:
    cli("space", "create", "s", "--classifier", make_clip(tmp_path / "clip"))
    (listener,) = strange_folder(tmp_path / "set")
    with listener:
        result = cli.run("register", "s", tmp_path / "set")
        assert "registered 2 labels (2 new), 3 support images, 6 unreadable" in result.stdout
        for name, reason in {
            "secret": "not an image", "dangling": "No such file", "loop": "symbolic links",
            "zero": "not a regular "
                                                                                                    "file",
            "pipe": "not a regular file", "socket": "not a regular file",
        }.items():  # fmt: skip
            (line,) = (line for line in result.stderr.splitlines() if f"{name}.png" in line)
            assert reason in line
        assert "root:" not in result.output
        assert result.stderr.splitlines()[:4] == [
            "left out: 2 hidden files or folders (.git, .hidden.png), 2 files that are not "
            "images (.zip, .txt)",
            "no images in 1 sub-folder: 'up'",
            f"left out: 1 folder reached a second time through a link ({tmp_path}/set/up)",
            f"could not be read: {tmp_path}/set/self: the link leads nowhere",
        ]
        scored = cli.run("score", "s", tmp_path / "set", "--format", "jsonl")
        assert len(scored.stdout.splitlines()) == 3


def test_folders_nested_too_deep_are_said(tmp_path: Path) -> None:
    deepest = tmp_path
    for _ in range(images.MAX_DEPTH + 5):
        deepest = deepest / "d"
    deepest.mkdir(parents=True)
    (deepest / "too-deep.png").write_bytes(b"x")
    (tmp_path / "d" / "high.png").write_bytes(b"x")
    finder = images.ImageFinder()
    assert finder.images_of([tmp_path]) == [str(tmp_path / "d" / "high.png")]
    assert len(finder.left_out.deep) == 1


def test_more_files_than_one_command_takes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(6):
            (tmp_path / folder / f"{i}.png").touch()
    for call in (
        lambda finder: label_folders(tmp_path, finder, "learn"),
        lambda finder: finder.images_of([tmp_path]),
    ):
        with pytest.raises(InvalidInput, match="at most 10 files in all"):
            call(images.ImageFinder(most=10))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\0b\n", "U\\+0000"),
        (b"a\x1b[31m\n", "U\\+001B"),
        ("a\u202eb".encode(), "U\\+202E"),
        (b"\xff\n", "expected UTF-8"),
        (b"x" * 10**6, "at most 500 characters"),
        (b"a\tb\tc\n", "2 tabs"),
        (b"\n\n", "found none"),
        (b"\xed\xa0\x80", "expected UTF-8"),
        (b"a\tprompt\x07", "U\\+0007"),
        (b"a\t" + b"p" * 10_000, "at most 5000"),
    ],
)
def test_files_of_names(space: Cli, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "names").write_bytes(content)
    result = space.run("register", "s", "--labels", tmp_path / "names", code=2)
    assert re.search(words, result.stderr)
    assert len(result.stderr) < 1_000


def test_names_from_devices_and_sockets(space: Cli, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        for path in ("/dev/zero", "/dev/null", tmp_path / "socket"):
            assert "device or a socket" in space("register", "s", "--labels", path, code=2)


# Archives


def archive(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def header(
    shape: str, descr: str = "'<f4'", body: bytes = bytes(64), order: str = "False"
) -> bytes:
    """A .npy file whose header says what you like."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 10 - 1) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Trap(), Trap()], dtype=object), allow_pickle=True)
    return out.getvalue()


NAMES = ("label_names.npy", npy(np.array(["a", "b"])))
LIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "python objects": (pickled, "holds Python objects, which are not read"),
    "a bare pickle": (lambda: pickle.dumps([Trap()]), "not an array|damaged|Python objects"),
    "58 TiB": (lambda: header("(4000000000000, 4)"), "damaged"),
    "a shape beyond integers": (lambda: header(f"({10**40}, 4)"), "damaged"),
    "a negative shape": (lambda: header("(-2, 4)"), "damaged|expected"),
    "a shape of text": (lambda: header("('a', 4)"), "damaged"),
    "1,000 dimensions": (lambda: header("(" + "1," * 1_000 + ")"), "damaged"),
    "more rows than bytes": (lambda: header("(1000, 4)"), "damaged"),
    "a nested header": (lambda: header("(" * 4_000 + ")" * 4_000), "damaged"),
    "a huge header": (lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 2**31 - 1) + b"{" * 20_000,
    "damaged"),
    "code in the header": (lambda: header("__import__('os').getpid()"), "damaged"),
    "objects inside a record": (lambda: header("(2,)", "[('a', '|O')]"), "Python objects|damaged"),
    "a record": (lambda: npy(np.zeros(2, [("x", "<f4")])), "expected"),
    "complex numbers": (lambda: npy(np.ones((2, 4), complex)), "expected real numbers"),
    "booleans": (lambda: npy(np.ones((2, 4), bool)), "expected real numbers"),
    "dates": (lambda: npy(np.zeros((2, 4), "M8[s]")), "expected real numbers"),
    "text": (lambda: npy(np.full((2, 4), "1")), "expected real numbers"),
    "NaN": (lambda: npy(np.full((2, 4), np.nan)), "NaN or infinite"),
    "infinity": (lambda: npy(np.full((2, 4), np.inf)), "NaN or infinite"),
    "beyond float32": (lambda: npy(np.full((2, 4), 1e300)), "values beyond"),
    "zero rows": (lambda: npy(np.zeros((2, 4))), "norm zero"),
    "denormal doubles": (lambda: npy(np.full((2, 4), 1e-320)), "norm zero"),
    "long doubles beyond "
    "doubles": (lambda: npy(np.full((2, 4), np.longdouble("1e4000"))), "values beyond"),
    "no dimension": (lambda: npy(np.float64(1)), "expected"),
    "three dimensions too many": (lambda: npy(np.ones((2, 4, 1, 1, 1))), "expected"),
    "another dimension": (lambda: npy(np.ones((2, 5))), "expected"),
    "nothing": (lambda: b"", "damaged|not an array"),
    "another file": (lambda: b"GIF89a" + bytes(100), "not an array|damaged"),
    "an archive in the archive": (lambda: b"PK\3\4" + bytes(50), "not an array|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_arrays_that_lie(space: Cli, tmp_path: Path, case: str) -> None:
    make, words = LIES[case]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "v.npz", NAMES, ("text_vectors.npy", make()), method=method)
        with pytest.raises(InvalidInput, match=words) as caught:
            arrays_of(space, path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1_000
    assert TRAP == []
    assert space.rows("label", "list", "s") == []


def arrays_of(space: Cli, path: Path) -> None:
    import trustvlm

    with trustvlm.open(space.home) as service:
        service.register("s", arrays.label_inputs(path, None))


def test_the_trap_is_a_real_one() -> None:
    np.load(io.BytesIO(pickled()), allow_pickle=True)
    assert TRAP == ["sprung", "sprung"]
    TRAP.clear()


def test_orders_and_byte_orders_are_read_as_they_are(cli: Cli, tmp_path: Path) -> None:
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    rows = np.arange(8.0).reshape(2, 4) + 1
    for name, layout in (
        ("f", np.asfortranarray(rows)),
        ("b", rows.astype(">f8")),
        ("h", rows.astype(">f2")),
        ("n", rows[::-1][::-1]),
    ):
        np.savez(
            tmp_path / f"{name}.npz",
            label_names=np.array([f"{name}0", f"{name}1"]),
            text_vectors=layout,
        )
        arrays_of(cli, tmp_path / f"{name}.npz")
    import trustvlm

    with trustvlm.open(cli.home) as service:
        found = service.search("s", trustvlm.Queries(rows), kind="text", k=4)
        np.testing.assert_allclose(found.similarity, 1.0, atol=1e-6)


def zip_bomb(path: Path, unpacked: int) -> Path:
    """An array of zeros in a file a thousand times smaller."""
    body = header(f"({unpacked // 16}, 4)", body=b"")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("text_vectors.npy", "w") as member,
    ):
        member.write(body)
        for _ in range(unpacked >> 20):
            member.write(bytes(1 << 20))
    return path


def patched(path: Path, find: bytes, offset: int, value: bytes) -> Path:
    """The archive with bytes changed at `offset` behind every occurrence of a signature."""
    data = bytearray(path.read_bytes())
    at = data.find(find)
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = data.find(find, at + 4)
    path.write_bytes(data)
    return path


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


def test_archives_that_unpack_to_too_much(tmp_path: Path) -> None:
    path = zip_bomb(tmp_path / "bomb.npz", 8 << 20)
    assert npz.read_npz(path, "text_vectors")["text_vectors"].shape == (524_288, 4)
    patched(path, CENTRAL, 24, struct.pack("<I", npz.FREE_BYTES + 1))
    with pytest.raises(InvalidInput, match=r"would unpack to 268.* at most 100 times as many"):
        npz.read_npz(path, "text_vectors")
    with path.open("r+b") as file:
        file.truncate(npz.MAX_BYTES + 1)  # sparse
    with pytest.raises(InvalidInput, match="expected at most 64 GiB, got 68719476737 bytes"):
        npz.read_npz(path, "text_vectors")


def test_archives_that_understate_what_they_hold(tmp_path: Path) -> None:
    """A size in the directory smaller than what the member inflates to: no more than that size is
    ever inflated."""
    path = patched(zip_bomb(tmp_path / "bomb.npz", 64 << 20), CENTRAL, 24, struct.pack("<I", 1_000))
    with pytest.raises(InvalidInput, match="damaged"):
        npz.read_npz(path, "text_vectors")


LYING_ZIPS = {
    "zip64 size": (CENTRAL, 24, b"\xff" * 4),
    "zip64 offset": (CENTRAL, 42, b"\xff" * 4),
    "name length": (LOCAL, 26, b"\xff\xff"),
    "checksum": (CENTRAL, 16, bytes(4)),
    "directory offset": (b"PK\5\6", 16, b"\xff" * 4),
    "directory size": (b"PK\5\6", 12, b"\xff" * 4),
    "encrypted": (CENTRAL, 8, b"\1\0"),
}
HARMLESS_ZIPS = {
    "zip64 packed size": (CENTRAL, 20, b"\xff" * 4),
    "number of members": (b"PK\5\6", 10, b"\xff\xff"),
}


@pytest.mark.parametrize("case", LYING_ZIPS)
def test_zip_structures_that_lie(space: Cli, tmp_path: Path, case: str) -> None:
    path = archive(tmp_path / "v.npz", NAMES, ("text_vectors.npy", npy(np.ones((2, 4)))))
    with pytest.raises(InvalidInput) as caught:
        arrays_of(space, patched(path, *LYING_ZIPS[case]))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("case", HARMLESS_ZIPS)
def test_zip_structures_that_nobody_reads(tmp_path: Path, case: str) -> None:
    """What the lie says is not used: the arrays are those that were written, their checksums
    right."""
    path = patched(
        archive(tmp_path / "v.npz", ("text_vectors.npy", npy(np.eye(2, 4)))), *HARMLESS_ZIPS[case]
    )
    np.testing.assert_array_equal(npz.read_npz(path, "text_vectors")["text_vectors"], np.eye(2, 4))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_archives_of_other_kinds(tmp_path: Path) -> None:
    vectors = ("text_vectors.npy", npy(np.ones((2, 4))))
    with pytest.raises(InvalidInput, match="two arrays are named text_vectors"):
        npz.read_npz(archive(tmp_path / "twice.npz", vectors, vectors), "text_vectors")
    with pytest.raises(InvalidInput, match="two arrays are named text_vectors"):
        npz.read_npz(
            archive(tmp_path / "both.npz", vectors, ("text_vectors", vectors[1])), "text_vectors"
        )
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(InvalidInput, match="another kind of compression"):
            npz.read_npz(archive(tmp_path / "other.npz", vectors, method=method), "text_vectors")
    many = archive(tmp_path / "many.npz", *[(f"{i}.npy", b"") for i in range(npz.MAX_ARRAYS + 1)])
    with pytest.raises(InvalidInput, match="at most 1000 arrays, got 1001"):
        npz.read_npz(many, "text_vectors")
    inner = archive(tmp_path / "inner.npz", vectors).read_bytes()
    with pytest.raises(InvalidInput, match=r"not an array|damaged"):
        npz.read_npz(archive(tmp_path / "outer.npz", ("text_vectors.npy", inner)), "text_vectors")
    up = archive(
        tmp_path / "up.npz", ("../../evil.npy", vectors[1]), vectors
    )  # member names are never paths
    assert list(npz.read_npz(up, "text_vectors")) == ["text_vectors"]


@pytest.mark.parametrize(
    "changes",
    [
        {"text_vectors": np.float64(1)},
        {"image_vectors": np.float64(1), "image_labels": np.array([0])},
        {"image_vectors": np.ones((2, 6)), "image_labels": np.float64(0)},
        {"classifier_image_vectors": np.float64(1)},
        {
            "image_vectors": np.ones((2, 6)),
            "image_labels": np.array([0, 1]),
            "classifier_image_vectors": np.float64(1),
        },
        {"image_vectors": np.ones((2, 6)), "image_labels": np.array([2**63, 0], np.uint64)},
        {"label_names": np.array("a")},
        {"image_vectors": np.ones((2, 6)), "image_labels": np.array([-1, 0])},
        {"label_names": np.array(["a\ud800", "b"])},
        {"label_names": np.array([0x110005, 0x62], np.uint32).view("<U1")},
        {"label_names": np.array([b"\xff", b"b"])},
        {"label_names": np.array(["\u202ea", "b"])},
        {"label_names": np.array(["x" * 501, "b"])},
        {"label_names": np.zeros((2, 0), "U1")},
    ],
    ids=[f"lie {i}" for i in range(14)],
)
def test_arrays_that_do_not_fit_together(
    space: Cli, tmp_path: Path, changes: dict[str, Any]
) -> None:
    np.savez(
        tmp_path / "v.npz",
        **({"label_names": np.array(["a", "b"]), "text_vectors": np.eye(2, 4)} | changes),
    )
    with pytest.raises(InvalidInput):
        arrays_of(space, tmp_path / "v.npz")
    assert space.rows("label", "list", "s") == []
