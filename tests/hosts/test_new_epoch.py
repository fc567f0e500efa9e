"""A catalog that was put back to an earlier time, and went on from there: 'trustvlm db new-epoch'."""

from __future__ import annotations

import shutil

from cli_runner import Cli
from numbered import CATALOG, create, label
from test_snapshot_store import Machine

import trustvlm


def registered(machine: Machine, number: int) -> str:
    """Register a label, and let what is derived be written."""
    with machine.open() as service:
        service.register("space", [label(number)])
        return label_of(service, number)


def label_of(service: trustvlm.TrustService, number: int) -> str:
    """The label that the text vector of label `number` gets."""
    query = trustvlm.Queries(label(number).text_vector)
    return str(service.score("space", query, rule="msp").label[0])


def test_what_was_derived_before_is_void(cli: Cli) -> None:
    """The same revision, with another label: neither the snapshot of the machine nor the shared one
    answers for it."""
    store = cli.home.with_name("store")
    machine = Machine(cli.home, str(store))
    with machine.open() as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
    earlier = shutil.copy(cli.home / CATALOG, cli.home.with_name("earlier"))
    with machine.open() as service:  # a new snapshot, of revision 2
        service.register("space", [label(number) for number in range(100, 130)])
        assert label_of(service, 100) == label(100).name
    shutil.copy(earlier, cli.home / CATALOG)
    with machine.open() as service:
        service.register("space", [label(200)])  # revision 2 again
    assert "snapshots from before are void" in cli("db", "new-epoch")
    with machine.open() as service:
        assert label_of(service, 200) == label(200).name
        assert label_of(service, 100) != label(100).name
    assert "no catalog" in cli("--home", cli.home.with_name("none"), "db", "new-epoch", code=3)


def test_a_service_that_runs_follows(cli: Cli) -> None:
    machine = Machine(cli.home, str(cli.home.with_name("store")))
    with machine.open() as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
        assert label_of(service, 3) == label(3).name
        cli("db", "new-epoch")
        assert label_of(service, 3) == label(3).name
        assert registered(machine, 21) == label(21).name
        assert label_of(service, 21) == label(21).name
