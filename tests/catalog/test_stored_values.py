"""What no database stores is refused, with one sentence that says so, on every one."""

from __future__ import annotations

import math

import pytest
from numbered import create, label, queries

import trustvlm
from trustvlm.catalog.rows import evidence_fits
from trustvlm.errors import InvalidInput
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.both_back_ends

NUL = r"'.*a\\x00b' holds the character U\+0000"


@pytest.fixture
def service_of_one(service: trustvlm.TrustService) -> trustvlm.TrustService:
    create(service)
    service.register("space", [label(0)])
    return service


def test_names_are_looked_up_without_nul(service_of_one: trustvlm.TrustService) -> None:
    service = service_of_one
    for look_up in (
        lambda name: service.get_space(name),
        lambda name: service.remove_space(name),
        lambda name: service.restore_space(name),
        lambda name: service.list_supports("space", name),
        lambda name: service.remove_label("space", name),
        lambda name: service.feedback("space", queries(1), [name]),
    ):
        with pytest.raises(InvalidInput, match=NUL):
            look_up("a\0b")


def test_a_source_with_nul_is_stored_without_it(service_of_one: trustvlm.TrustService) -> None:
    service_of_one.feedback("space", queries(1), [label(0).name], sources=["a\0b.jpg"])
    stored = ServerHome(service_of_one).get_observation("space", 1)
    assert stored.source == "a\\x00b.jpg"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_without_nan(service_of_one: trustvlm.TrustService, number: float) -> None:
    catalog = service_of_one._home.catalog
    with pytest.raises(InvalidInput, match="JSON can hold"), catalog.write("fit") as connection:
        evidence_fits.store(connection, 1, 1, {"gain": [number]})
    with catalog.write("fit") as connection:
        evidence_fits.store(connection, 1, 1, {"gain": [0.5]})
