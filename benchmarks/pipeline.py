"""Images in, verdicts out: how much of the time is trust, and how much encoding.

    python -m benchmarks.pipeline [--labels 1e5]

A ViT-B/32 of open_clip with random weights (they cost what trained ones do), batches of 32 pictures
(JPEG, 500 × 375), labels with a text vector and one support image each, verifier "same". One
thread. Prints the figures and writes results/pipeline.json.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import trustvlm
from benchmarks.report import arguments, header, on_one_thread, store
from benchmarks.synthetic import DIM, Labels

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
BATCH, SLICE = 32, 20_000


def checkpoint(folder: Path, *, small: bool = False) -> str:
    """Write an open_clip ViT-B/32, or one of its shape with a single narrow layer; its spec."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32")
    if small:
        config["vision_cfg"] |= {"layers": 1, "width": 64}
        config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 1}
    model = open_clip.CLIP(**config)
    folder.mkdir()
    content = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return f"open_clip:local-dir:{folder}"


def photographs(folder: Path) -> list[str]:
    """So many JPEG files of the size that ImageNet's have."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(BATCH)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    return [str(path) for path in paths]


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return taken


def measured(
    count: int, folder: Path, repeats: int, device: str = "cpu", *, small: bool = False
) -> dict[str, Any]:
    spec, images = checkpoint(folder / "model", small=small), photographs(folder / "images")
    labels = Labels(count)
    with trustvlm.open(folder / "home", create=True, device=device) as service:
        service.create_space("space", classifier=spec)
        for start in range(0, count, SLICE):
            stop = min(start + SLICE, count)
            support = np.random.default_rng([3, start]).standard_normal(
                (stop - start, 1, DIM), dtype=np.float32
            )
            texts = labels.text(start, stop)
            service.register(
                "space",
                [
                    trustvlm.LabelInput(f"label {start + i}", text, image_vectors=support[i])
                    for i, text in enumerate(texts)
                ],
            )
        batch = trustvlm.Queries(images=images)
        service.score("space", batch)
        vectors = service.embed("space", images).queries
        turns: dict[str, list[float]] = {"encode": [], "all": [], "trust": []}
        for _ in range(repeats):  # in turn, so that a slow moment meets all of them
            turns["encode"] += seconds(lambda: service.embed("space", images), 1)
            turns["all"] += seconds(lambda: service.score("space", batch), 1)
            turns["trust"] += seconds(lambda: service.score("space", vectors), 1)
        figures: dict[str, Any] = {
            f"{name}_ms": 1000 * statistics.median(taken) for name, taken in turns.items()
        }
    return (
        {"labels": count, "batch": BATCH}
        | figures
        | {"trust_over_encoding": figures["trust_ms"] / figures["encode_ms"]}
    )


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--labels", type=float, default=1e5, help="how many labels")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed")
    options = parser.parse_args()
    on_one_thread("pipeline")
    report: dict[str, Any] = {**header("pipeline")}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TRUSTVLM_SCRATCH")) as name:
        report |= measured(int(options.labels), Path(name), options.repeats)
    Console(width=120).print(report)
    store(options.json, report)


if __name__ == "__main__":
    main()
