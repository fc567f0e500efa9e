"""What does answering with a node of a taxonomy gain, and is its promise kept?

    python -m benchmarks.taxonomy [--data FOLDER] [--repetitions 200] [--json FILE]

Synthetic shapes: images drawn from populations of 20,000, each with the probability of its label
and of one node above it, and whether the two are right; "broken" is the share of calibrations whose
true risk exceeds the promised 5 %, of 10 % allowed. With --data, the CLIP ViT-B/32 embeddings of
aerial photos (WHU-RS19) and CIFAR-10 images, under trees of :data:`TREES`, through `register`:
coverage at a risk of 2 %, with labels alone and with nodes, of an oracle and of what 200 images
promise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store
from trustvlm.scoring.rules import resolve_parameters
from trustvlm.selective.ranks import find_by_ranks
from trustvlm.service.memory.space_tree import space_tree
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.context import context_of
from trustvlm.service.query.judge import judge
from trustvlm.service.query.nodes import top_mass, wrong_up_to

SIZE, RISK, REAL_RISK = 20_000, 0.05, 0.02
RESULTS = Path(__file__).resolve().parent / "results" / "taxonomy.json"
TREES = {
    "whurs19_clip_vit_b32": {
        "built-up": "airport|commercial|industrial|residential|football field|park|parking",
        "traffic": "bridge|port|railway station|viaduct",
        "water": "beach|pond|river",
        "land": "desert|farmland|forest|meadow|mountain",
    },
    "cifar10_clip_vit_b32": {
        "animal": "bird|cat|deer|dog|frog|horse",
        "vehicle": "airplane|automobile|ship|truck",
    },
}

Pair = tuple[np.ndarray, np.ndarray]
"""(M,) the largest probability of an answer, and up to which threshold the answer is wrong."""


def shapes() -> dict[str, Pair]:
    """Populations with a label and one node above it: the label is right with a chance of its
    probability, where it is wrong the node is right with the chance that is left."""
    rng = np.random.default_rng(7)

    def pair(label: np.ndarray, node: np.ndarray, right: np.ndarray, above: np.ndarray) -> Pair:
        right_label = rng.random(SIZE) < right
        right_node = right_label | (rng.random(SIZE) < above)
        wrong = np.where(right_label, -np.inf, np.where(right_node, label, node))
        return node, wrong

    label = rng.beta(2, 1, SIZE)
    left = rng.random(SIZE)
    node = 1 - (1 - label) * left
    sure = 1 - (1 - label) * 1e-6 * left
    wave = 0.75 + 0.24 * np.sin(15 * node)
    flawed = np.where(node > np.quantile(node, 0.97), 0.5, 1.0)
    return {
        "calibrated": pair(label, node, label, 1 - left),
        "overconfident": pair(label, node, label**3, np.full(SIZE, 0.9)),
        "nodes nearly sure": pair(label, sure, label, np.full(SIZE, 0.97)),
        "waves": pair(label, node, label * wave, np.full(SIZE, 0.85) * wave + 0.14),
        "overconfident top": pair(label, node, label * flawed, (1 - left) * flawed),
    }


def truth(pair: Pair, threshold: float) -> tuple[float, float]:
    """(coverage, risk) of a threshold."""
    accepted, wrong = ((values >= threshold).sum() for values in pair)
    return accepted / len(pair[0]), wrong / max(accepted, 1)


def oracle(pair: Pair, risk: float) -> float:
    """The largest coverage that a threshold reaches with this risk at most."""
    trust, wrong = np.sort(pair[0]), np.sort(pair[1][pair[1] > -np.inf])
    at = np.unique(np.concatenate([trust, wrong]))
    accepted = len(trust) - np.searchsorted(trust, at)
    errors = len(wrong) - np.searchsorted(wrong, at)
    kept = accepted[errors <= risk * accepted]
    return float(kept.max(initial=0) / len(trust))


def promised(pair: Pair, images: int, risk: float, repetitions: int) -> dict[str, Any]:
    """Mean coverage of what `images` of the population promise, and how often it is broken."""
    rng = np.random.default_rng([images, repetitions])
    coverage, broken = [], 0
    for _ in range(repetitions):
        drawn = rng.choice(len(pair[0]), images)
        trust, wrong = (values[drawn] for values in pair)
        keys = [int(place).to_bytes(4) for place in drawn]
        by_ranks, _ = find_by_ranks(trust, wrong == -np.inf, keys, max_risk=risk, wrong_up_to=wrong)
        reached, true_risk = (0.0, 0.0)
        if by_ranks.threshold is not None:
            reached, true_risk = truth(pair, by_ranks.threshold)
        coverage.append(reached)
        broken += true_risk > risk
    return {"images": images, "coverage": float(np.mean(coverage)), "broken": broken / repetitions}


def real(path: Path, shots: int) -> dict[str, Pair]:
    """The posterior on the images that are no support images, with labels alone and with nodes."""
    data = np.load(path)
    images, labels = data["image_vectors"], data["labels"]
    names = [str(name) for name in data["label_names"]]
    rng = np.random.default_rng(0)
    support = [rng.permutation(np.flatnonzero(labels == i))[:shots] for i in range(len(names))]
    left = np.setdiff1d(np.arange(len(labels)), np.concatenate(support))
    parents = {name: node for node, some in TREES[path.stem].items() for name in some.split("|")}
    with tempfile.TemporaryDirectory() as folder, trustvlm.open(folder, create=True) as service:
        service.create_space("s", classifier=f"precomputed:{images.shape[1]}")
        service.register(
            "s",
            [
                trustvlm.LabelInput(
                    name, data["text_vectors"][i], image_vectors=images[support[i]],
                    parent=parents[name],
                )
                for i, name in enumerate(names)
            ],
        )  # fmt: skip
        home = service._ready()
        unit = images[left] / np.linalg.norm(images[left], axis=1, keepdims=True)
        with home.snapshot("s") as reading:
            context = context_of(home, reading, reading.view.space.id, own_fit=True)
            tree = space_tree(reading)
            _, rule, parameters = resolve_parameters("posterior", None)
            queries, rules = UnitQueries(unit, unit), [(rule, parameters)]
            [columns] = judge(context, queries, rules, 1, tree=tree)
            ids = {row.name: row.id for row in service.list_labels("s")}
            true_ids = np.array([ids[names[i]] for i in labels[left]], np.int64)
            wrong = wrong_up_to(tree, columns, context.view.text.slots(true_ids))
            right = columns["label_id"] == true_ids
            nodes = top_mass(columns), wrong
    alone = columns["trust"], np.where(right, -np.inf, columns["trust"])
    return {"labels": alone, "nodes": nodes}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, help="folder of .npz files with embeddings")
    parser.add_argument("--repetitions", type=int, default=200)
    options = parser.parse_args()
    console, rows = Console(), []
    table = Table("population", "images", "oracle", "coverage", "broken")
    cases: list[tuple[str, Pair, float, tuple[int, ...]]] = [
        (name, pair, RISK, (100, 200, 500)) for name, pair in shapes().items()
    ]
    for path in TREES if options.data else ():
        for shots in (1, 4):
            for what, pair in real(options.data / f"{path}.npz", shots).items():
                name = f"{path.split('_')[0]}, {shots} images a label, {what}"
                cases.append((name, pair, REAL_RISK, (200,)))
    for name, pair, risk, sizes in cases:
        best = oracle(pair, risk)
        for images in sizes:
            row = promised(pair, images, risk, options.repetitions)
            rows.append({"population": name, "max_risk": risk, "oracle": best} | row)
            table.add_row(
                name, f"{images}", f"{best:.2f}", f"{row['coverage']:.2f}", f"{row['broken']:.1%}"
            )
    console.print(table)
    store(options.json, header("taxonomy") | {"rows": rows})


if __name__ == "__main__":
    main()
