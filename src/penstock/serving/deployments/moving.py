"""Room for a deployment by moving others: advice that a refusal carries."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.hardware import Accelerator
from penstock.policy.place.beside import Neighbour
from penstock.policy.place.defragment import Defragmenter, Deployed, MoveRates
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Device, Footprint, Infeasible
from penstock.serving.deployments.documents import placement_document


def room_by_moving(footprint: Footprint, devices: Sequence[Device],
                   neighbours: Sequence[Neighbour], accelerator: Accelerator
                   ) -> Mapping[str, Any] | None:
    """The cheapest moves after which the footprint fits, as a document; None where no few moves
    make room. A deployment moves only if it lies on these devices alone."""
    known = {device.device_id for device in devices}
    deployed = [Deployed(one.name, one.placement) for one in neighbours
                if one.placement is not None and known.issuperset(one.device_ids)]
    rates = MoveRates(accelerator.link_bytes_per_s, accelerator.pcie_bytes_per_s)
    found = Defragmenter(PenstockPlacer(), rates).make_room(footprint, devices, deployed)
    if isinstance(found, Infeasible) or not found.moves:
        return None
    return {"moves": [{"name": move.name, "from": sorted(move.before.device_ids),
                       **placement_document(move.after)} for move in found.moves],
            "one_by_one": found.in_turn, "then": placement_document(found.placement)}
