"""What takes foreign bytes: each hands one input to the product as a user would, and raises what
the product raises."""

from __future__ import annotations

import io
import random
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import trustvlm
from fuzz import seeds
from fuzz.mutate import mutated
from trustvlm.errors import TrustVLMError

__all__ = ["ENTRANCES", "Entrance", "outcome"]

DIMS = "precomputed:4", "precomputed:6"


class Entrance(ABC):
    """One way in: input number → bytes, and what is done with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "input"
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Whatever is needed once."""

    @abstractmethod
    def input(self, rng: random.Random) -> bytes:
        """What is handed in."""

    @abstractmethod
    def take(self, data: bytes, rng: random.Random) -> None:
        """Hand it in."""

    def service(self) -> Any:
        service = trustvlm.open(self.folder / "home", create=True)
        service.create_space("s", classifier=DIMS[0], verifier=DIMS[1])
        service.register(
            "s",
            [trustvlm.LabelInput("known", text_vector=np.ones(4), image_vectors=np.ones((1, 6)))],
        )
        return service


class Images(Entrance):
    def prepare(self) -> None:
        from PIL import Image

        Image.init()
        self.seeds = seeds.images()

    def input(self, rng: random.Random) -> bytes:
        return mutated(self.seeds, rng)

    def take(self, data: bytes, rng: random.Random) -> None:
        from trustvlm.encoders.images.decode import decode_image

        decoded = decode_image(data)
        assert decoded.image.mode == "RGB"
        assert len(decoded.thumbnail) < 100_000


class Archives(Entrance):
    def prepare(self) -> None:
        self.seeds = seeds.archives()
        self.arrays, self.vectors, self.anything = seeds.arrays()
        self.opened = self.service()

    def input(self, rng: random.Random) -> bytes:
        return mutated(self.seeds, rng) if rng.random() < 0.4 else self.rezipped(rng)

    def rezipped(self, rng: random.Random) -> bytes:
        """A whole archive with right checksums around arrays that are damaged."""
        out = io.BytesIO()
        names = rng.choice(list(seeds.MEMBERS.values()))
        with zipfile.ZipFile(
            out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        ) as archive:
            for name in names:
                kinds = self.arrays.get(name, self.vectors) if rng.random() < 0.7 else self.anything
                member = rng.choice(kinds)
                archive.writestr(
                    f"{name}.npy",
                    mutated([member, *self.anything], rng) if rng.random() < 0.2 else member,
                )
        return out.getvalue()

    def take(self, data: bytes, rng: random.Random) -> None:
        from trustvlm.cli.reading import arrays, npz

        self.path.write_bytes(data)
        match rng.randrange(4):
            case 0:
                self.opened.register(
                    "s", arrays.label_inputs(self.path, "known" if rng.random() < 0.1 else None)
                )
            case 1:
                for _, queries in arrays.query_batches(self.path, 1_000):
                    self.opened.score("s", queries)
            case 2:
                queries, truth, sources = arrays.labelled_vectors(self.path)
                self.opened.evaluate("s", queries, truth, sources=sources)
            case 3:
                self.opened.search(
                    "s", trustvlm.Queries(verifier=npz.read_query_vectors(self.path, "verifier"))
                )


class Settings(Entrance):
    def prepare(self) -> None:
        self.seeds = seeds.settings()

    def input(self, rng: random.Random) -> bytes:
        if rng.random() < 0.02:
            lists, tables = (
                b"a = " + b"[" * rng.choice((500, 7_000)),
                b"a." * rng.choice((500, 4_000, 20_000)) + b"a = 1",
            )
            return rng.choice((lists, tables, b"a" * 70_000, b"batch_size = " + b"9" * 8_000))
        return mutated(self.seeds, rng)

    def take(self, data: bytes, rng: random.Random) -> None:
        from datetime import timedelta

        from trustvlm.settings import Settings

        (self.folder / "trustvlm.toml").write_bytes(data)
        timedelta(hours=Settings.of(self.folder).undo_hours)


class Names(Entrance):
    """Names from anywhere in Unicode, and damaged files of names."""

    RANGES = ((0x20, 0x7F), (0, 0x20), (0x80, 0x250), (0x300, 0x370), (0x590, 0x700), (0x2000,
    0x2070), (0xD800, 0xE000),
              (0x4E00, 0x9FFF), (0xFE00, 0x10000), (0x1F300, 0x1FA00), (0xE0000, 0xE0200), (0x10000,
              0x110000))  # fmt: skip

    def prepare(self) -> None:
        self.seeds = seeds.texts()
        self.opened = self.service()

    def input(self, rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutated(self.seeds, rng)
        length = rng.choice((1, 2, 5, 20, 500, 501, 2_000, 1_000_000 if rng.random() < 0.1 else 3))
        spans = rng.choices(
            self.RANGES, weights=[20, 1, 5, 3, 3, 1, 1, 5, 2, 5, 1, 2], k=min(length, 2_000)
        )
        text = "".join(chr(rng.randrange(*span)) for span in spans)
        return (text * (length // len(text))).encode("utf-8", "surrogatepass")

    def take(self, data: bytes, rng: random.Random) -> None:
        from trustvlm.cli.printing.safe_text import shown
        from trustvlm.reading.lists import read_names

        if rng.random() < 0.5:
            self.path.write_bytes(data)
            names = [one.name for one in read_names(self.path).names]
        else:
            names = [data.decode("utf-8", "surrogateescape" if rng.random() < 0.5 else "replace")]
        vectors = np.random.default_rng(rng.randrange(2**32)).normal(size=(len(names), 4))
        result = self.opened.register(
            "s",
            [trustvlm.LabelInput(n, text_vector=v) for n, v in zip(names, vectors, strict=True)],
        )
        assert -1 not in result.label_ids
        for name in names:
            assert shown(name).isprintable()
            self.opened.score(
                "s", trustvlm.Queries(np.ones((1, 4))), labels=[name], rule="msp"
            )  # by the same spelling
            self.opened.remove_label("s", name, purge=True)


ENTRANCES: dict[str, type[Entrance]] = {
    "images": Images,
    "npz": Archives,
    "toml": Settings,
    "names": Names,
}


def outcome(entrance: Entrance, number: int) -> str:
    """What became of input `number`: "accepted", the kind of refusal, or "CRASH …" for anything
    else."""
    rng = random.Random(f"{type(entrance).__name__} {number}")
    data = entrance.input(rng)
    take: Callable[[bytes, random.Random], None] = entrance.take
    try:
        take(data, rng)
    except TrustVLMError as error:
        message = str(error)
        if not message or len(message) > 2_000 or "\n" in message.replace(str(entrance.folder), ""):
            return f"CRASH message of {len(message)} characters: {message[:200]!r}"
        return type(error).__name__
    except MemoryError:
        return "CRASH MemoryError"
    except Exception as error:  # all of these are findings
        trace = sys.exc_info()[2]
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = (
            f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
        )
        return f"CRASH {type(error).__name__} at {where}: {error}"[:300]
    return "accepted"
