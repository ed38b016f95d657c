"""Placement as a mixed-integer program over groups of devices.

One column says that a group of devices (a tensor-parallel group) is a stage of a model in a given
role (first, middle, last), another how many layers it has. Stages have no number, so that no two
solutions differ by the order of stages alone, and a group's room is the coefficient of its column,
so that the relaxation knows it. Of devices that are alike, those with lower serial numbers are used
first by the first model.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import comb

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.plan.assign.highs import Floats, Program
from penstock.policy.place.arrange import Group
from penstock.policy.place.layers import room
from penstock.policy.place.score import home
from penstock.policy.place.values import Device, Footprint, Placement, Stage

Role = tuple[bool, bool]
Terms = dict[int, float]
MIDDLE: Role = (False, False)

# Groups of one model up to which a program is made at all.
_MOST_GROUPS = 20_000


@dataclass(slots=True)
class ModelColumns:
    """Columns of one footprint: ``stage`` by (group, role), ``layers`` by group, groups by index,
    the ``largest`` stage; where there are several nodes, those in use (``nodes``) and whether the
    pipeline ``returns`` to the first. ``by_device`` has (group, role, stage column)."""

    footprint: Footprint
    groups: list[Group]
    roles: dict[Role, int]
    largest: int
    stage: dict[tuple[int, Role], int] = field(default_factory=dict)
    layers: dict[int, int] = field(default_factory=dict)
    by_device: dict[int, list[tuple[int, Role, int]]] = field(
        default_factory=lambda: defaultdict(list))
    nodes: dict[str, int] = field(default_factory=dict)
    returns: int | None = None


@dataclass(slots=True)
class PlaceProgram:
    """The program of placing footprints together, and the ways to and from placements."""

    devices: tuple[Device, ...]
    program: Program
    models: list[ModelColumns]
    used: dict[int, int] = field(default_factory=dict)
    memory_rows: list[int] = field(default_factory=list)


def build_program(footprints: Sequence[Footprint], devices: Sequence[Device], *, across: bool
                  ) -> PlaceProgram:
    """Columns and rows; ``across`` allows tensor-parallel groups over several nodes.

    Raises InputError where there are too many groups to write down.
    """
    built = PlaceProgram(tuple(sorted(devices, key=lambda d: d.device_id)), Program(), [])
    for footprint in footprints:
        built.models.append(_model(built, footprint, across))
    if len(footprints) > 1:
        _share_memory(built)
    _break_symmetry(built)
    return built


def groups_of(footprint: Footprint, devices: Sequence[Device], across: bool) -> list[Group]:
    """All groups of as many devices with room for a layer, in order of serial numbers."""
    nodes: dict[str, list[Device]] = defaultdict(list)
    for device in devices:
        if room(footprint, device.free_bytes):
            nodes["" if across else device.node].append(device)
    number = sum(comb(len(node), footprint.tensor) for node in nodes.values())
    if number > _MOST_GROUPS:
        raise InputError(f"exact placement of {footprint.model!r}: {number} groups of "
                         f"{footprint.tensor} devices, expected at most {_MOST_GROUPS}; "
                         "place it with 'penstock'")
    return [group for node in nodes.values() for group in combinations(node, footprint.tensor)]


def _model(built: PlaceProgram, footprint: Footprint, across: bool) -> ModelColumns:
    program, devices = built.program, built.devices
    groups = groups_of(footprint, devices, across)
    several = len({device.node for group in groups for device in group}) > 1
    least = ceil_div(footprint.num_layers, footprint.pipeline)
    columns = ModelColumns(footprint, groups, _roles(footprint, several), program.column(
        float(least), float(footprint.num_layers), integer=True))
    for index in range(len(groups)):
        _group(program, columns, index)
    for role, count in columns.roles.items():
        program.row(float(count), [(column, 1.0) for (_, own), column in columns.stage.items()
                                   if own == role], float(count))
    program.row(float(footprint.num_layers), [(column, 1.0) for column in columns.layers.values()],
                float(footprint.num_layers))
    for device in devices:
        own = columns.by_device[device.device_id]
        program.row(0.0, [(column, 1.0) for _, _, column in own], 1.0)
        held = [columns.layers[group] for group in dict.fromkeys(group for group, _, _ in own)]
        program.row(0.0, [(columns.largest, 1.0), *((column, -1.0) for column in held)], np.inf)
    if several and footprint.pipeline > 1:
        _cross_nodes(program, columns)
    return columns


def _roles(footprint: Footprint, several_nodes: bool) -> dict[Role, int]:
    """How many stages have each role; all have one where it makes no difference."""
    if footprint.pipeline == 1:
        return {(True, True): 1}
    if not (several_nodes or footprint.first_bytes or footprint.last_bytes):
        return {MIDDLE: footprint.pipeline}
    ends: dict[Role, int] = {(True, False): 1, (False, True): 1}
    return {**ends, MIDDLE: footprint.pipeline - 2} if footprint.pipeline > 2 else ends


def _group(program: Program, columns: ModelColumns, index: int) -> None:
    """Columns of one group: a stage in each role that it has room for, and its layers."""
    footprint, group = columns.footprint, columns.groups[index]
    free = min(device.free_bytes for device in group)
    own: list[tuple[int, float]] = []
    for role in columns.roles:
        most = room(footprint, free, first=role[0], last=role[1])
        if most:
            column = program.column(0.0, 1.0, integer=True)
            columns.stage[index, role] = column
            own.append((column, float(most)))
            for device in group:
                columns.by_device[device.device_id].append((index, role, column))
    if not own:
        return
    layers = program.column(0.0, max(most for _, most in own), integer=True)
    columns.layers[index] = layers
    program.row(-np.inf, [(layers, 1.0), *((column, -most) for column, most in own)], 0.0)
    program.row(0.0, [(layers, 1.0), *((column, -1.0) for column, _ in own)], np.inf)


def _cross_nodes(program: Program, columns: ModelColumns) -> None:
    """Columns for nodes in use, and for a pipeline that ends on the node where it began although
    it left it: these, and groups over several nodes, make the number of crossings."""
    by_node: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    ends: dict[str, list[int]] = defaultdict(list)
    torn: list[int] = []
    for (index, role), column in columns.stage.items():
        node = home(columns.groups[index])
        if node is None:
            torn.append(column)
            continue
        for device in columns.groups[index]:
            by_node[node][device.device_id].append(column)
        if role != MIDDLE:
            ends[node].append(column)
    columns.returns = program.column(0.0, 1.0, integer=False)
    for node in sorted(by_node):
        columns.nodes[node] = program.column(0.0, 1.0, integer=False)
        for held in by_node[node].values():
            program.row(0.0, [(columns.nodes[node], 1.0), *((c, -1.0) for c in held)], np.inf)
    for node, own in sorted(ends.items()):
        both = [(columns.returns, -1.0), *((column, 1.0) for column in own)]
        for away in [*(c for other, c in columns.nodes.items() if other != node), *torn]:
            program.row(-np.inf, [*both, (away, 1.0)], 2.0)


def _share_memory(built: PlaceProgram) -> None:
    """Rows for the memory of devices that several models may use, and columns for their use."""
    program = built.program
    largest = max((device.free_bytes for device in built.devices), default=1) or 1
    for device in built.devices:
        used = program.column(0.0, 1.0, integer=False)
        built.used[device.device_id] = used
        terms: Terms = {}
        for columns in built.models:
            footprint = columns.footprint
            own = columns.by_device[device.device_id]
            for group, role, column in own:
                beside = (footprint.fixed_bytes + role[0] * footprint.first_bytes
                          + role[1] * footprint.last_bytes)
                terms[column] = beside / largest
                terms[columns.layers[group]] = footprint.layer_bytes / largest
            program.row(0.0, [(used, 1.0), *((column, -1.0) for _, _, column in own)], np.inf)
        built.memory_rows.append(program.row(-np.inf, sorted(terms.items()),
                                             device.free_bytes / largest))


def _break_symmetry(built: PlaceProgram) -> None:
    """Constrain equal devices: the first model uses lower serial numbers first."""
    alike: dict[object, list[Device]] = defaultdict(list)
    for device in built.devices:
        alike[device.node, device.link_group, device.free_bytes].append(device)
    first = built.models[0]
    for devices in alike.values():
        for one, other in pairwise(devices):
            terms: Terms = defaultdict(float)
            for _, _, column in first.by_device[one.device_id]:
                terms[column] += 1.0
            for _, _, column in first.by_device[other.device_id]:
                terms[column] -= 1.0
            built.program.row(0.0, [(column, value) for column, value in sorted(terms.items())
                                    if value], np.inf)


def level_terms(built: PlaceProgram, level: str) -> tuple[Terms, float]:
    """Terms and constant of a level of the order (``objective.LEVELS``)."""
    terms: Terms = defaultdict(float)
    constant = 0.0
    for columns in built.models:
        footprint = columns.footprint
        if level == "largest_stage":
            terms[columns.largest] += 1.0 / footprint.num_layers
        elif level == "node_crossings":
            constant += _crossing_terms(columns, terms)
        elif level in ("node_splits", "link_splits"):
            for (index, _), column in columns.stage.items():
                group = columns.groups[index]
                keys = {d.node if level == "node_splits" else d.link for d in group}
                terms[column] += len(keys) - 1.0
        elif len(built.models) == 1:
            for (index, _), column in columns.stage.items():
                terms[column] += float(sum(d.free_bytes for d in columns.groups[index]))
    if level == "stranded_bytes":
        for device in built.devices:
            if device.device_id in built.used:
                terms[built.used[device.device_id]] += float(device.free_bytes)
        constant -= float(sum(columns.footprint.total_bytes for columns in built.models))
    return {column: value for column, value in terms.items() if value}, constant


def _crossing_terms(columns: ModelColumns, terms: Terms) -> float:
    if columns.returns is None:
        return 0.0
    terms[columns.returns] += 1.0
    for column in columns.nodes.values():
        terms[column] += 1.0
    for (index, _), column in columns.stage.items():
        if home(columns.groups[index]) is None:
            terms[column] += 1.0
    return -1.0


def encode(built: PlaceProgram, placements: Sequence[Placement]) -> Floats:
    """Values (columns,) of placements of all footprints, as a start for the solver."""
    values = np.zeros(built.program.num_columns)
    for columns, placement in zip(built.models, placements, strict=True):
        known = {tuple(device.device_id for device in group): index
                 for index, group in enumerate(columns.groups)}
        values[columns.largest] = max(placement.layer_map)
        homes: list[str | None] = []
        for index, stage in enumerate(placement.stages):
            group = known[tuple(sorted(stage.device_ids))]
            end = (index == 0, index == len(placement.stages) - 1)
            role = end if end in columns.roles else MIDDLE
            values[columns.stage[group, role]] = 1.0
            values[columns.layers[group]] = stage.num_layers
            homes.append(home(columns.groups[group]))
        for node, column in columns.nodes.items():
            values[column] = float(node in homes)
        if columns.returns is not None:
            values[columns.returns] = float(homes[0] is not None and homes[0] == homes[-1]
                                            and len(set(homes)) > 1)
        for device_id in placement.device_ids:
            if device_id in built.used:
                values[built.used[device_id]] = 1.0
    return values


def decode(built: PlaceProgram, values: Floats) -> list[Placement]:
    """The placements that these values (columns,) mean."""
    found = []
    for columns in built.models:
        chosen = [(group, role) for (group, role), column in columns.stage.items()
                  if values[column] > 0.5]
        chosen.sort(key=lambda pair: (not pair[1][0], pair[1][1]))
        found.append(Placement(columns.footprint, tuple(
            Stage(round(float(values[columns.layers[group]])),
                  tuple(device.device_id for device in columns.groups[group]))
            for group, _ in chosen)))
    return found
