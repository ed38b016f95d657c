"""Deployments for tests."""

from penstock.control.deployments import Deployment
from penstock.policy.place.values import Footprint, Placement, Stage

GIB = 1 << 30
PLACEMENT = Placement(Footprint("llama-2-7b", 4, 1, 2, GIB), (Stage(3, (0,)), Stage(1, (1,))))


def deployment(name="a", **more):
    return Deployment(**{"name": name, "model": "llama-2-7b", "engine": "sim",
                         "registered_s": 0.0, "since_s": 0.0, **more})
