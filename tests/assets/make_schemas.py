"""Makes schema-NNNN.sqlite3.xz and schema-NNNN.json: a small catalog of each released schema, made by
the program of its time.

    python tests/assets/make_schemas.py [SCHEMA...]

For each schema the last commit before the next migration is checked out into a temporary worktree,
and :func:`fill` runs there, in a process of its own that imports nothing of today's program. The
JSON beside the catalog holds what that program answered: verdicts, hits, labels and support images.
The one thing that is changed afterwards is the folder of the model in the spec of the space
"pictures", which would otherwise be that of the temporary worktree: :data:`MODEL`.

A new migration needs a new line in :data:`COMMITS`, for the schema that it leaves behind.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

COMMITS = {
    "0001": "a33f1c0c427c",
    "0002": "dc6a2ca4140b",
    "0003": "4a3ebc499ec8",
    "0004": "602d2625773a",
    "0005": "b8a50ecea454",
    "0006": "54de95d84a6a",
    "0007": "97542df0e3ee",
    "0008": "e4909380a1d3",
    "0009": "f41bb852803a",
    "0011": "ee51707b89cf",
    "0016": "0c06e09bf451",
    "0017": "b80ef1a07d75",
    "0018": "ccde0a263f9d",
    "0019": "248374ca4abc",
    "0020": "219e6eebab31",
    "0021": "07b09612539f",
}
"""Of schemas 0010 and 0012 to 0015 no program went out: their migrations came together with later
ones."""
MODEL = "/models/classifier"
TEXT, IMAGE = 16, 24
RULES = ("msp", "trustvlm", "trustvlm_star", "posterior")


def unpack(schema: str, target: Path) -> None:
    """Write the stored catalog of a schema to the file `target`."""
    target.write_bytes(lzma.decompress((HERE / f"schema-{schema}.sqlite3.xz").read_bytes()))


def draw(number: int, version: int) -> bytes:
    """A PNG of 48 pixels a side: one shape for each number, in one colour for each version."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (48, 48), (250, 250, 240))
    pen = ImageDraw.Draw(image)
    box = (6 + version, 6, 40 + version, 42)
    colour = (40 + 60 * version, 90, 200 - 50 * version)
    if number == 0:
        pen.ellipse(box, fill=colour)
    elif number == 1:
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(24, 4), (44, 44), (4 + version, 44)], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def vectors(*seed: int, n: int, dim: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def fill(home: str, model: str) -> None:
    """Runs in the worktree: spaces with labels, support images, thumbnails and what was removed or
    purged."""
    import trustvlm

    with trustvlm.open(home, create=True) as service:
        service.create_space(
            "vectors",
            classifier=f"precomputed:{TEXT}:t",
            verifier=f"precomputed:{IMAGE}",
            logit_scale=8.0,
        )
        service.register("vectors", [_label(trustvlm, number) for number in range(14)])
        service.add_support("vectors", "label 01", image_vectors=vectors(9, n=2, dim=IMAGE))
        service.update_label("vectors", "label 02", new_name="zweite Ä")
        service.remove_label("vectors", "label 11")
        service.remove_label("vectors", "label 12", purge=True)
        kept = [row.id for row in service.list_supports("vectors", "label 07")]
        service.remove_support("vectors", kept[:1])
        service.create_space(
            "pictures", classifier=f"open_clip:local-dir:{model}", templates=["a {}.", "one {}"]
        )
        names = ("circle", "square", "triangle")
        pictures = [[draw(number, version) for version in range(2)] for number in range(3)]
        service.register(
            "pictures",
            [trustvlm.LabelInput(n, images=p) for n, p in zip(names, pictures, strict=True)],
        )
        service.register("pictures", [trustvlm.LabelInput("line", prompt="a thin line")])
        service.create_space("removed", classifier="precomputed:4")
        service.register("removed", [trustvlm.LabelInput("sea", text_vector=[1, 0, 0, 0])])
        service.remove_space("removed")
        if hasattr(service, "alias"):
            service.alias("vectors", "label 05", "label 04")
        if hasattr(service, "calibrate"):
            asked, truth = _queries(trustvlm, 60), [f"label {3 + i % 5:02d}" for i in range(60)]
            service.calibrate("vectors", asked, truth, rule="posterior", max_risk=0.9)
            service.feedback(
                "vectors",
                _queries(trustvlm, 3, seed=8),
                ["label 03", None, "label 06"],
                sampling="random",
            )
        if hasattr(service, "tune_index"):
            service.rebuild_index("vectors", recipe="hnsw")
            service.tune_index("vectors")
    with trustvlm.open(home) as service:
        sys.stdout.write(json.dumps(_answers(trustvlm, service)))


def _label(trustvlm: Any, number: int) -> Any:
    import numpy as np

    count = number % 4
    images = vectors(2, number, n=count, dim=IMAGE) + 2 * vectors(3, number, n=1, dim=IMAGE)
    others = vectors(4, number, n=count, dim=TEXT) if number % 2 else None
    text = vectors(1, number, n=1 if number % 3 else 2, dim=TEXT)
    return trustvlm.LabelInput(
        f"label {number:02d}",
        text_vector=text[0] if len(text) == 1 else text,
        image_vectors=np.asarray(images) if count else None,
        classifier_image_vectors=others if count else None,
    )


def _queries(trustvlm: Any, n: int, seed: int = 5) -> Any:
    import numpy as np

    labels = [3 + i % 5 for i in range(n)]
    classifier = np.concatenate([vectors(1, i, n=1 if i % 3 else 2, dim=TEXT)[:1] for i in labels])
    verifier = np.concatenate([2 * vectors(3, i, n=1, dim=IMAGE) for i in labels])
    return trustvlm.Queries(
        classifier + vectors(seed, 1, n=n, dim=TEXT), verifier + vectors(seed, 2, n=n, dim=IMAGE)
    )


def _answers(trustvlm: Any, service: Any) -> dict[str, Any]:
    """What the program answers, as JSON holds it."""
    asked = _queries(trustvlm, 12, seed=6)
    rules = [rule for rule in RULES if rule in trustvlm.RULES]
    searched = service.search("vectors", trustvlm.Queries(verifier=asked.verifier), k=3)
    looked = service.embed("pictures", [draw(number, 3) for number in range(3)]).queries
    by_text = service.score(
        "pictures", looked, rule="msp"
    )  # the default rule is not the same at all times
    labels = {
        name: [row.name for row in service.list_labels(name)] for name in ("vectors", "pictures")
    }
    return {
        "queries": {"classifier": asked.classifier.tolist(), "verifier": asked.verifier.tolist()},
        "verdicts": {rule: _rows(service.score("vectors", asked, rule=rule)) for rule in rules},
        "hits": {"ids": searched.ids.tolist(), "similarity": searched.similarity.tolist()},
        "pictures": {"classifier": looked.classifier.tolist(), "verdicts": _rows(by_text)},
        "labels": labels,
        "supports": {
            name: [len(service.list_supports(name, label)) for label in labels[name]]
            for name in labels
        },
        "revisions": {row.name: row.revision for row in service.list_spaces()},
    }


def _rows(verdicts: Any) -> list[dict[str, Any]]:
    kept = (
        "label",
        "trust",
        "text_confidence",
        "image_similarity",
        "rival",
        "nearest_prototype",
        "unverified",
        "accepted",
    )
    return [{name: row[name] for name in kept} for row in verdicts.rows()]


def make(schema: str, commit: str) -> None:
    """Check `commit` out, let it make its catalog, and keep that."""
    with tempfile.TemporaryDirectory() as folder:
        tree, home = Path(folder, "tree"), Path(folder, "home")
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
        try:
            environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
            child = [
                sys.executable,
                __file__,
                "--fill",
                str(home),
                str(tree / "trustvlm" / "demo" / "models" / "classifier"),
            ]
            done = subprocess.run(
                child, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
        _move_model(home / "catalog.sqlite3")
        packed = lzma.compress((home / "catalog.sqlite3").read_bytes(), preset=9)
        (HERE / f"schema-{schema}.sqlite3.xz").write_bytes(packed)
        (HERE / f"schema-{schema}.json").write_text(done.stdout)


def _move_model(catalog: Path) -> None:
    connection = sqlite3.connect(catalog)
    with connection:
        connection.execute(
            "UPDATE spaces SET classifier = ? WHERE name = 'pictures'",
            (f"open_clip:local-dir:{MODEL}",),
        )
    connection.execute("VACUUM")  # no byte of the worktree's path stays behind
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fill"]:
        fill(*sys.argv[2:])
    else:
        for wanted in sys.argv[1:] or COMMITS:
            make(wanted, COMMITS[wanted])
