"""What runs behind the sockets is what the schema says: every method, with exactly its parameters."""

from __future__ import annotations

import inspect

import pytest

from channeld.api.methods import NodeService, TowerService
from channeld.api.schema import NODE, TOWER
from channeld.node.service import Service
from channeld.tower.service import OurTower

OF_THE_CONNECTION = {"subscribe", "unsubscribe"}


def node_fits(service: Service) -> NodeService:
    """For mypy: the types agree."""
    return service


def tower_fits(service: OurTower) -> TowerService:
    return service


@pytest.mark.parametrize(("service", "schema"), [(Service, NODE), (OurTower, TOWER)], ids=["node", "tower"])
def test_services_take_what_the_schema_gives(service, schema):
    for name in set(schema.methods) - OF_THE_CONNECTION:
        given = {field.name for field in schema.methods[name].params}
        taken = inspect.signature(getattr(service, name)).parameters
        assert given == set(taken) - {"self"}, name
