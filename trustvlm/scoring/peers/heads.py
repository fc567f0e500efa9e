"""Systems that are trained on the support images: a logistic stacker, and a head over
embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trustvlm.scoring.peers.material import Material, softmax
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Bools, Float64s, Int64s

if TYPE_CHECKING:
    import torch

_HIDDEN, _STEPS, _RATE = 128, 300, 1e-3


def stacker(material: Material) -> Float64s:
    """(n,) probability that the label is right by logistic regression on the five numbers of
    :func:`_features`, learned from the support images, each judged without itself (after Wolpert
    1992)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logits, predicted = _of_supports(material)
    right = predicted == material.owner
    if right.all() or not right.any():  # nothing to learn from: the softmax alone
        return material.probability
    left_out = _left_out(material)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    learned = regression.fit(_features(logits, left_out, predicted), right)
    similarity = material.verifier @ material.prototypes.T
    features = _features(material.logits, similarity, material.predicted)
    trust: Float64s = learned.predict_proba(features)[:, 1]
    return trust


def _of_supports(material: Material) -> tuple[Float64s, Int64s]:
    """(m, N) logits of the support images, and their labels by the classifier."""
    assert material.support_classifier is not None
    logits: Float64s = material.scale * material.support_classifier @ material.text.T
    return logits, logits.argmax(axis=1)


def _left_out(material: Material) -> Float64s:
    """(m, N) cosines of the support images and the prototypes of all labels; the prototype of an
    image's label is made without that image."""
    similarity: Float64s = material.supports @ material.prototypes.T
    counts = material.counts[material.owner]
    rest = material.means[material.owner] * counts[:, None] - material.supports
    several = counts > 1
    to_label = np.zeros(len(counts))
    to_label[several] = (unit_rows(rest[several]) * material.supports[several]).sum(axis=1)
    similarity[np.arange(len(counts)), material.owner] = to_label
    return similarity


def _features(logits: Float64s, similarity: Float64s, label: Int64s) -> Float64s:
    """(n, 5) softmax p of a label and its lead over the next one, similarity and its lead, and
    −log(1 − p)."""
    columns, share = [], softmax(logits)
    for values in (share, similarity):
        of_label = np.take_along_axis(values, label[:, None], axis=1)[:, 0]
        others = values.copy()
        np.put_along_axis(others, label[:, None], -np.inf, axis=1)
        columns += [of_label, of_label - others.max(axis=1)]
    return np.column_stack([*columns, -np.log1p(-np.minimum(columns[0], 1 - 1e-6))])


def attentive_head(material: Material) -> Float64s:
    """(n,) probability that the label is right by a small network over the image, the label's text
    and the texts weighted by their softmax, learned from the support images (after Lafon et al.
    2025); the same numbers at each call."""
    import torch

    assert material.support_classifier is not None
    logits, predicted = _of_supports(material)
    right: Bools = predicted == material.owner
    if right.all() or not right.any():
        return material.probability
    inputs = _contexts(material, material.support_classifier, logits, predicted)
    generator = torch.Generator().manual_seed(0)
    layers = [
        _layer(inputs.shape[1], _HIDDEN, generator),
        torch.nn.ReLU(),
        _layer(_HIDDEN, 1, generator),
    ]
    network = torch.nn.Sequential(*layers)
    weight = torch.tensor(float(right.sum()) / float((~right).sum()))
    x = torch.tensor(inputs, dtype=torch.float32)
    y = torch.tensor(~right, dtype=torch.float32)
    loss_of = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        loss_of(network(x)[:, 0], y).backward()
        optimiser.step()
    queries = _contexts(material, material.classifier, material.logits, material.predicted)
    with torch.no_grad():
        wrong = torch.sigmoid(network(torch.tensor(queries, dtype=torch.float32))[:, 0])
    trust: Float64s = 1 - wrong.numpy().astype(np.float64)
    return trust


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> torch.nn.Module:
    import torch

    layer = torch.nn.Linear(inputs, outputs)
    bound = 1 / np.sqrt(inputs)
    with torch.no_grad():
        for values in (layer.weight, layer.bias):
            values.uniform_(-bound, bound, generator=generator)
    return layer


def _contexts(material: Material, images: Float64s, logits: Float64s, label: Int64s) -> Float64s:
    """(n, 3 d_t) image, text of the label, and texts weighted by their softmax."""
    return np.hstack([images, material.text[label], softmax(logits) @ material.text])
