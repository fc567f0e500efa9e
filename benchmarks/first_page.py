"""From an empty environment to the page with images of one's own: how long a new user waits.

    python -m benchmarks.first_page [--folder PHOTOS] [--no-install]

Builds the wheel (not counted: a user fetches it) and installs it with all its dependencies into a
new environment. Then, for each folder: runs `trustvlm start` on it, serves the home, and fetches
the page, the labels and a thumbnail of each. Folders are the demo's held-out digits (637 images of
ten labels) and those of --folder, which may be repeated. No model is downloaded: the digits are
read by the demo's small models, each folder of photos by these and by models of the shape of
`--preset small` with random weights, which take as long as the trained ones and know nothing.

Prints seconds of the clock, seconds of the processor and megabytes on the disk, and writes
results/first_page.json. --no-install uses the environment that runs this.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import checkpoint
from benchmarks.report import arguments, header, store
from trustvlm.demo.data import write_images
from trustvlm.demo.specs import classifier_spec, verifier_spec
from trustvlm.encoders.specs.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "first_page.json"


PATIENCE = 300
"""Seconds after which an answer of the service is given up."""

Command = tuple[object, ...]


@dataclass(frozen=True)
class Models:
    """Two encoders, and what the table calls them."""

    name: str
    classifier: str
    verifier: str


@dataclass(frozen=True)
class Step:
    """What a user does, what it took (clock, processor), and what it left on the disk."""

    what: str
    seconds: float
    cpu_seconds: float
    megabytes: float


@contextmanager
def measured(steps: list[Step], what: str, folder: Path) -> Iterator[None]:
    """Add a step: what happens in the block, and by how much the folder grows."""
    before, start, size = _children_cpu(), time.monotonic(), _megabytes(folder)
    yield
    seconds = time.monotonic() - start
    grown = _megabytes(folder) - size
    steps.append(Step(what, round(seconds, 1), round(_children_cpu() - before, 1), round(grown)))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _megabytes(folder: Path) -> float:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()) / 1e6


def run(*command: object, cwd: Path) -> None:
    """Run a command that must succeed, outside the checkout."""
    subprocess.run([str(word) for word in command], cwd=cwd, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    options = ("--quiet", "--no-deps", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def models_of_preset_small(folder: Path) -> Models:
    """Write the models of `--preset small` with random weights; their specs."""
    import timm
    from safetensors.torch import save_model

    verifier = PRESETS["small"].verifier
    name, _, options = verifier.removeprefix("timm:").partition("?")
    weights = folder / "verifier.safetensors"
    classifier = checkpoint(folder / "classifier")
    save_model(timm.create_model(name, img_size=224), str(weights))
    return Models("the shape of --preset small", classifier, f"timm:{name}@{weights}?{options}")


def fetch_page(trustvlm: Command, home: Path, cwd: Path) -> int:
    """Serve the home until the page, its labels and a thumbnail of each have come; how many."""
    command = [str(word) for word in (*trustvlm, "--home", home, "serve", "--port", 0)]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://[\d.]+:\d+/", process.stdout.readline())
        assert address, "the service did not say where it listens"
        # The first answer comes when the models are loaded.
        with httpx.Client(base_url=address[0], timeout=PATIENCE) as client:
            return _labels_shown(client)
    finally:
        process.terminate()
        process.communicate(timeout=90)


def _labels_shown(client: httpx.Client) -> int:
    """Ask for what a browser asks for; the number of labels whose thumbnails came."""
    stop = time.monotonic() + PATIENCE
    while client.get("readyz").status_code != 200:
        assert time.monotonic() < stop, f"the service was not ready after {PATIENCE} s"
        time.sleep(0.05)
    assert "<html" in client.get("").raise_for_status().text
    (space,) = client.get("v1/spaces").raise_for_status().json()["spaces"]
    labels_of = f"v1/spaces/{space['name']}/labels"
    parameters = {"thumbnails": 1, "limit": 1_000}
    labels = client.get(labels_of, params=parameters).raise_for_status().json()["labels"]
    for label in labels:
        picture = client.get(f"v1/supports/{label['supports'][0]}/thumbnail").raise_for_status()
        assert picture.headers["content-type"] == "image/jpeg"
    return len(labels)


def first_page(trustvlm: Command, photos: Path, models: Models, cwd: Path) -> dict[str, Any]:
    """Measure the two commands on a folder of photos."""
    steps: list[Step] = []
    home = Path(tempfile.mkdtemp(prefix="home-", dir=cwd))
    specs = ("--classifier", models.classifier, "--verifier", models.verifier)
    with measured(steps, "trustvlm start", home):
        run(*trustvlm, "--home", home, "start", photos, *specs, "--space", "photos", cwd=cwd)
    with measured(steps, "trustvlm serve, to the page", home):
        labels = fetch_page(trustvlm, home, cwd)
    images = sum(file.is_file() for file in photos.rglob("*"))
    about = {"folder": photos.name, "images": images, "labels": labels, "models": models.name}
    return about | {"steps": [asdict(step) for step in steps]}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    more = {"type": Path, "action": "append", "default": []}
    parser.add_argument("--folder", **more, help="photos, one sub-folder a label; may be repeated")
    parser.add_argument("--no-install", action="store_true", help="measure the other steps only")
    given = parser.parse_args()
    installation: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="trustvlm-first-page-") as name:
        work = Path(name)
        write_images(work / "images")
        demo = Models("the demo's", classifier_spec(), verifier_spec())
        runs = [(work / "images" / "held-out", demo)]
        if given.folder:
            large = models_of_preset_small(work)
            runs += [
                (folder.resolve(), models) for folder in given.folder for models in (demo, large)
            ]
        python: Path | str = sys.executable
        if not given.no_install:
            wheel = build_wheel(work)
            python = work / "venv" / "bin" / "python"
            with measured(installation, "make an environment, pip install", work):
                run(sys.executable, "-m", "venv", work / "venv", cwd=work)
                run(python, "-m", "pip", "install", "--quiet", wheel, cwd=work)
        trustvlm = (python, "-P", "-m", "trustvlm.cli")
        pages = [first_page(trustvlm, folder, models, work) for folder, models in runs]
    measurements = {"installation": [asdict(step) for step in installation], "pages": pages}
    store(given.json, header("first_page") | measurements)
    show(measurements)


def show(measurements: dict[str, Any]) -> None:
    """Print a row for each step."""
    table = Table("images", "models", "step", "s", "s of the processor", "MB")
    for page in (
        {"images": "", "models": "", "steps": measurements["installation"]},
        *measurements["pages"],
    ):
        for step in page["steps"]:
            table.add_row(str(page["images"]), page["models"], *map(str, step.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
