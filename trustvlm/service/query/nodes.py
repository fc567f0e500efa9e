"""Answers that back off to a node of the taxonomy: the probability of the label and of every node
above it, and from which probability on the verdicts of a call answer with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, Judgement, Rule
from trustvlm.scoring.tree import finest, node_mass, worst_wrong
from trustvlm.service.memory.space_tree import SpaceTree, space_tree
from trustvlm.service.query.candidates import CandidateSet
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.softmax.products import block_logits
from trustvlm.system.stages import stage
from trustvlm.types.arrays import Bools, Float64s, Floats, Int64s
from trustvlm.types.bounds import number
from trustvlm.types.calibration import Calibration
from trustvlm.types.messages.commands import suggested
from trustvlm.types.options import BackOff

_BLOCK = 4_096
"""Labels whose logits are in memory at once."""

_DEFAULT = 0.95
"""The threshold where none is named and no calibration has one: 1 − the default of max_risk."""


def tree_of_call(context: Context, *, required: bool) -> SpaceTree:
    """The taxonomy of the call's space.

    Raises:
        InvalidInput: `required`, and there is none.
    """
    tree = space_tree(context.reading)
    if required and tree.empty:
        name = context.view.space.name
        raise InvalidInput(
            f"back_off: the labels of space {name!r} have no parents; "
            f"{suggested('label parent', name, 'NAME', 'PARENT')} gives a label one"
        )
    return tree


def node_columns(
    context: Context,
    tree: SpaceTree,
    classifier: Floats,
    candidate_set: CandidateSet,
    judgement: Judgement,
    chosen: Int64s,
) -> dict[str, npt.NDArray[Any]]:
    """The columns `node` (n,), the node of the label (−1: it stands in no tree), and `node_mass`
    (n, h), the probability of the label and of each node above it.

    NaN stands for what is no answer: beyond the top, and a node that all labels of the call stand
    under.

    Args:
        classifier: (n, d_t) unit queries. judgement: of a rule whose trust is a probability.
        chosen: (n,) column of the label among the candidates.
    """
    candidates, at = candidate_set.candidates, np.arange(len(chosen))
    slots = candidate_set.slots
    node = tree.node[slots[at, chosen]]
    paths = tree.tree.paths(node)
    bounds = [np.append(ends, 0)[paths] for ends in (tree.tree.first, tree.tree.last)]
    first, last = (np.where(paths < 0, 0, ends) for ends in bounds)
    place = np.where(slots < 0, -1, tree.place[slots])[:, :, np.newaxis]
    below = (first[:, np.newaxis] <= place) & (place < last[:, np.newaxis])
    with stage("taxonomy pass"):
        text = _text_mass(context, tree, classifier, candidates.moments.log_z, first, last)
    mass = node_mass(judgement.trust, candidates.p, candidates.valid, below, text)
    labels = _labels_below(context, tree, first, last)
    alone = (labels[:, 0] <= 1) | (node < 0)
    mass[alone, 0] = judgement.trust[at, chosen][alone]
    mass = np.maximum.accumulate(mass, axis=1)
    every = (labels == context.subset.labels) & (labels > 1)
    beyond = paths < 0
    beyond[:, 0] = False  # a label without a place is an answer, too
    mass[every | beyond] = np.nan
    return {"node": node, "node_mass": mass}


def _text_mass(
    context: Context,
    tree: SpaceTree,
    classifier: Floats,
    log_z: Float64s,
    first: Int64s,
    last: Int64s,
) -> Float64s:
    """(n, h) the text softmax of all labels that take part and whose place is in first … last."""
    text, subset = context.view.text, context.subset
    takes_part = text.alive if subset.text is None else subset.text
    total = np.zeros(first.shape)
    if tree.empty or not len(classifier):
        return total
    scaled = np.asarray(classifier * context.view.space.logit_scale, np.float32)
    for start, logits in block_logits(text.segments, scaled, _BLOCK):
        order = tree.by_place(start, logits.shape[1])
        order = order[takes_part[start + order]]
        if not len(order):
            continue
        powers = logits[:, order].astype(np.float64)
        powers -= log_z[:, np.newaxis]
        np.exp(np.maximum(powers, -80.0, out=powers), out=powers)
        sums = np.zeros((len(powers), len(order) + 1))
        np.cumsum(powers, axis=1, out=sums[:, 1:])
        places = tree.place[start + order]
        ends = [np.searchsorted(places, end.ravel()).reshape(end.shape) for end in (first, last)]
        total += np.take_along_axis(sums, ends[1], 1) - np.take_along_axis(sums, ends[0], 1)
    return total


def _labels_below(context: Context, tree: SpaceTree, first: Int64s, last: Int64s) -> Int64s:
    """(n, h) how many labels that take part have their place in first … last; further names do not
    count."""

    def sorted_places() -> Int64s:
        text, subset = context.view.text, context.subset
        taking = (text.alive if subset.text is None else subset.text).copy()
        names = np.array([*context.view.aliases.canonical], np.int64)
        taking[text.slots(names)] = False
        return np.sort(tree.place[taking])

    all_labels = context.subset.text is None
    places = context.reading.once("places", sorted_places) if all_labels else sorted_places()
    ends = [np.searchsorted(places, end.ravel()).reshape(end.shape) for end in (last, first)]
    return np.asarray(ends[0] - ends[1], np.int64)


def top_mass(columns: Columns) -> Float64s:
    """(n,) the largest probability that an answer can have; −∞ where nothing is one."""
    mass = columns["node_mass"]
    top: Float64s = np.where(np.isnan(mass), -np.inf, mass).max(axis=1)
    return top


def nodes_reach(
    columns: Columns, threshold: float
) -> tuple[Bools, Callable[[list[int]], list[str]]]:
    """(n,) whether the probability of a node is at or above the threshold, and what says so of some
    of these."""
    of_label = columns["node_mass"][:, 0] >= threshold

    def words(rows: list[int]) -> list[str]:
        whose = ("the label's" if of_label[row] else "a node's" for row in rows)
        return [f"accept: {one} probability reaches the threshold" for one in whose]

    return top_mass(columns) >= threshold, words


def wrong_up_to(tree: SpaceTree, columns: Columns, truth_slots: Int64s) -> Float64s:
    """(n,) up to which threshold the answer is no ancestor of the true label, and not that label;
    −∞ where it is never wrong.

    Args:
        truth_slots: (n,) text slots of the true labels; −1: no label of the space.
    """
    paths = tree.tree.paths(columns["node"])
    bounds = [np.append(ends, 0)[paths] for ends in (tree.tree.first, tree.tree.last)]
    place = np.where(truth_slots < 0, -1, tree.place[truth_slots])[:, np.newaxis]
    right: Bools = (paths >= 0) & (bounds[0] <= place) & (place < bounds[1])
    right[:, 0] |= (truth_slots >= 0) & (columns["label_slot"] == truth_slots)
    return worst_wrong(columns["node_mass"], right)


def answers(tree: SpaceTree, columns: Columns, threshold: float) -> dict[str, npt.NDArray[Any]]:
    """The columns of verdicts: `node`, the finest answer whose probability is at or above the
    threshold, `node_probability`, and `path`, from the top down to the label."""
    mass: Float64s = columns["node_mass"]
    column, at = finest(mass, threshold), np.arange(len(mass))
    paths = tree.tree.paths(columns["node"])
    labels = columns["label"].tolist()
    node, path = (np.empty(len(mass), dtype=object) for _ in range(2))
    for row, (chosen, nodes, label) in enumerate(
        zip(column.tolist(), paths.tolist(), labels, strict=True)
    ):
        above = [tree.tree.names[one] for one in nodes[1:] if one >= 0]
        upwards = [label, *above]
        node[row] = None if chosen < 0 else upwards[chosen]
        path[row] = tuple(reversed(upwards))
    return {
        "node": node,
        "node_probability": np.where(column < 0, np.nan, mass[at, column]),
        "path": path,
    }


def stands_under(tree: SpaceTree, nodes: list[str | None], truth_slots: Int64s) -> Bools:
    """(n,) whether the true labels stand under these nodes, or are they; False for None, and for
    what is no node.

    Args:
        truth_slots: (n,) text slots of the true labels; −1: no label of the space.
    """
    numbers = np.array([tree.tree.number.get(node or "", -1) for node in nodes], np.int64)
    ends = [np.append(ends, 0)[numbers] for ends in (tree.tree.first, tree.tree.last)]
    place = np.where(truth_slots < 0, -1, tree.place[truth_slots])
    return (numbers >= 0) & (ends[0] <= place) & (place < ends[1])


def check_back_off(back_off: object) -> bool | float | None:
    """The option as it is, checked. Raises InvalidInput."""
    if back_off is None or isinstance(back_off, bool | np.bool_):
        return None if back_off is None else bool(back_off)
    return number("back_off", back_off)


def node_threshold(
    back_off: BackOff | None, name: str, rule: Rule, calibration: Calibration | None
) -> tuple[float | None, str | None]:
    """(the threshold of a call with this option, None: verdicts have no nodes; why the calibration
    does not decide about these answers, None: nothing speaks against it). `calibration`: the one
    that decides about the rule and labels of the call.

    Raises:
        InvalidInput: nodes are requested of a rule whose trust is no probability.
    """
    if back_off not in (None, False) and not rule.probability:
        raise InvalidInput(
            f"back_off: expected a rule whose trust is a probability, such as {DEFAULT_RULE!r}; "
            f"got {name!r}"
        )
    proved = calibration.threshold if calibration is not None and calibration.back_off else None
    if back_off is None or (back_off is True and proved is not None):
        return proved, None
    value: float | None = _DEFAULT if back_off else None
    if not isinstance(back_off, bool):
        value = back_off
    if proved is None:
        return value, None
    assert calibration is not None
    of_nodes = f"calibration {calibration.id} is for nodes from {proved:.6g} on"
    return value, f"not calibrated for this back-off ({of_nodes})"
