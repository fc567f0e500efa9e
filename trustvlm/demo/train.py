"""Train the demo's two models from scratch: `python -m trustvlm.demo.train --out DIR`.

With `--out trustvlm/demo/models` in a checkout it replaces the weights that ship with the package.
The same machine and library versions give the same weights; others give weights of the same
quality.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from trustvlm.demo.data import write_images
from trustvlm.demo.measure import (
    RULES_SHOWN,
    Figures,
    embed_held_out,
    figures_of,
    prepare_space,
    register_labels,
    score,
)
from trustvlm.demo.specs import classifier_folder, verifier_file

__all__ = ["Trained", "measure_models", "train_models"]


@dataclass(frozen=True)
class Trained:
    """How good a pair of models is on the held-out images.

    Attributes:
        figures: rule → what it achieves.
        prototype_accuracy: share of the images whose nearest prototype is that of the true label.
    """

    figures: dict[str, Figures]
    prototype_accuracy: float


def train_models(out: Path, echo: Callable[[str], object]) -> None:
    """Train both models on one thread and write their weights below `out`."""
    import torch

    from trustvlm.demo.train_classifier import save_classifier, train_classifier
    from trustvlm.demo.train_verifier import save_verifier, train_verifier

    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # the order of additions, and so the weights, must not depend on the number of cores
    try:
        start = time.perf_counter()
        save_classifier(train_classifier(), classifier_folder(out))
        echo(
            f"classifier trained in {time.perf_counter() - start:.0f} s: "
            f"{_size(classifier_folder(out))}"
        )
        start = time.perf_counter()
        save_verifier(train_verifier(), verifier_file(out))
        echo(
            f"verifier trained in {time.perf_counter() - start:.0f} s: {_size(verifier_file(out))}"
        )
    finally:
        torch.set_num_threads(threads)


def measure_models(models: Path) -> Trained:
    """Measure the models below `models` as the demo does, in a home of their own."""
    import trustvlm

    with TemporaryDirectory() as folder:
        images = Path(folder, "images")
        write_images(images)
        with trustvlm.open(Path(folder, "home"), create=True, workers=0) as service:
            prepare_space(service, models)
            register_labels(service, images, lambda line: None)
            held_out = embed_held_out(service, images)
            verdicts = {rule: score(service, held_out, rule) for rule in RULES_SHOWN}
    nearest = verdicts["trustvlm"].nearest_prototype
    figures = {rule: figures_of(verdict, held_out.truth) for rule, verdict in verdicts.items()}
    return Trained(figures, float(np.mean(nearest == held_out.truth)))


def _size(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.2f} MB in {path}"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-models"),
    show_default=True,
)
def main(out: Path) -> None:
    """Train the demo's models, write their weights below OUT and print how good they are on the
    held-out images."""
    train_models(out.absolute(), click.echo)
    trained = measure_models(out.absolute())
    click.echo(f"nearest prototype is right for {trained.prototype_accuracy:.1%}")
    for rule, figures in trained.figures.items():
        click.echo(
            f"{rule:<14} accuracy {figures.accuracy:.1%}   AURC×1000 {1000 * figures.aurc:5.2f}   "
            f"AUROC {figures.auroc:.1%}   FPR95 {figures.fpr95:.1%}"
        )


if __name__ == "__main__":
    main()
