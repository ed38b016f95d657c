"""Choice of a deployment's configuration and placement, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.catalog.catalog import load_catalog
from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.model import ModelSpec
from penstock.core.prediction import Prediction
from penstock.estimate.choosing import Ask, Options, footprint_of, options
from penstock.estimate.documents import (
    configuration_document,
    rejected_document,
    scored_document,
)
from penstock.estimate.training import (
    accuracies,
    cuts_of,
    read_sessions,
    read_table,
    subjects_of,
)
from penstock.perf.fingerprint.advice import advice
from penstock.perf.fingerprint.cuts import Cuts, Session
from penstock.perf.fingerprint.estimator import (
    Estimator,
    check_possible,
    fit_estimator,
    usual_estimator,
)
from penstock.perf.fingerprint.physics import (
    PRECISIONS,
    Subject,
    width_of,
)
from penstock.perf.fingerprint.plausible import implausible
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.rows import ProfiledRun
from penstock.perf.profiles.summary import profiled_runs, same_prompts
from penstock.policy.place.beside import Neighbour, place_beside
from penstock.policy.place.intent import Choice, Scored, choose
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement
from penstock.registry.make import make_placer
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import ONE_ACCELERATOR
from penstock.serving.deployments.deployments import (
    DeployIntent,
    Deployment,
    Expected,
    RefusedError,
)
from penstock.serving.deployments.documents import (
    beside_document,
    expected_document,
    placement_document,
)
from penstock.serving.deployments.moving import room_by_moving


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision on a deployment. ``document`` is the complete answer for programs: the chosen
    configuration with its expected figures, the alternatives, and the reason why each other
    configuration was rejected."""

    configuration: Configuration
    placement: Placement
    expected: Expected
    document: Mapping[str, Any]


class Chooser:
    """Decides from the measurements of a model and, where the cluster has any, of whole other
    models.

    May be called from several threads, one call at a time for one model.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._learned: tuple[list[Session], Estimator] | None = None

    def decide(self, one: Deployment, intent: DeployIntent, devices: Sequence[Device],
               neighbours: Sequence[Neighbour] = ()) -> Decision:
        """Return the decision for these devices. Latency includes waiting for the requests of
        ``neighbours`` on them, except with MaverIQ's placer, which ignores neighbours. Raises
        RefusedError where no configuration fits, InputError for an invalid intent."""
        if intent.placer == "maveriq":
            neighbours = ()
        if intent.configuration is not None:
            return self._exactly(one, intent, intent.configuration, devices, neighbours)
        if one.profile is None:
            raise RefusedError("not_profiled",
                               f"{one.name} is not profiled, so no configuration can "
                               "be chosen; profile it, or state a configuration")
        estimator = self.estimator(one)
        criteria = intent.criteria
        if one.engine in ONE_ACCELERATOR:
            criteria = replace(criteria, most_accelerators=1)
        found = options(estimator, Ask(one.model, intent.output_tokens, intent.batch), devices,
                        make_placer(intent.placer), _table(intent.accuracy), neighbours,
                        criteria.own_rate_per_s)
        choice = choose(found.candidates, criteria)
        document = _document(one, intent, choice, found, estimator)
        if choice.chosen is None:
            if _is_full(choice):
                smallest = min(found.without_room, key=lambda footprint: footprint.total_bytes)
                raise self._no_room(f"{one.name}: {choice.reason}", document, smallest, devices,
                                    neighbours)
            raise RefusedError("no_configuration", f"{one.name}: {choice.reason}", document)
        candidate = choice.chosen.candidate
        return Decision(candidate.configuration, found.placements[candidate.configuration],
                        Expected(candidate.latency_s, candidate.memory_bytes), document)

    def estimator(self, one: Deployment) -> Estimator:
        """Return the estimator of a deployment's model. Raises InputError for an unusable
        profile."""
        assert one.profile is not None
        subject = Subject(self._cluster.model(one.model).spec, self._cluster.accelerator)
        runs = profile_runs(Path(one.profile), one.model, subject.model)
        if self._cluster.train is None:
            return own_estimator(subject, one.model, runs)
        if self._learned is None:
            self._learned = self._learn(self._cluster.train)
        sessions, learned = self._learned
        cuts, batch_cuts = cuts_of(sessions, runs)
        return replace(learned, subjects={**learned.subjects, one.model: subject}).with_cuts(
            cuts, batch_cuts)

    def _learn(self, folder: Path) -> tuple[list[Session], Estimator]:
        catalog = load_catalog(self._cluster.fleet.catalog)
        sessions = read_sessions(folder, catalog)
        names = [run.model for session in sessions for run in session.whole]
        names += [name for session in sessions for name in sorted(session.cuts.models)]
        subjects = subjects_of(names, catalog, self._cluster.accelerator)
        return sessions, fit_estimator(sessions, subjects, sessions[0].cuts)

    def _exactly(self, one: Deployment, intent: DeployIntent, configuration: Configuration,
                 devices: Sequence[Device], neighbours: Sequence[Neighbour]) -> Decision:
        """Return the requested configuration on the devices with room where it waits least."""
        subject = Subject(self._cluster.model(one.model).spec, self._cluster.accelerator)
        if configuration.precision not in PRECISIONS:
            raise InputError(f"configuration: precision {configuration.precision!r} is unknown"
                             f"{nearest(configuration.precision, PRECISIONS)}")
        width_of(configuration.kv_precision)
        check_possible(subject, configuration)
        if one.profile is None:
            expected = Expected(None, _bare_memory(subject.model, configuration, intent))
            footprint = _bare_footprint(one.model, subject, configuration, expected)
        else:
            estimate = self.estimator(one).estimate(one.model, configuration, intent.output_tokens,
                                                    intent.batch)
            expected = Expected(estimate.latency_s, estimate.memory_bytes)
            footprint = footprint_of(subject, one.model, configuration, estimate)
        alone_s = 0.0 if expected.latency_s is None else expected.latency_s.value
        placed = place_beside(make_placer(intent.placer), footprint, devices, neighbours, alone_s,
                              intent.criteria.own_rate_per_s)
        entry = {**configuration_document(configuration), **expected_document(expected)}
        document: dict[str, Any] = {
            "name": one.name, "model": one.model, "intent": None, "chosen": None,
            "alternatives": [], "rejected": [], "measure_next": []}
        if isinstance(placed, Infeasible):
            why = f"no room: {placed.reason}"
            raise self._no_room(f"{one.name}: {configuration.name}: {why}", {
                **document, "rejected": [{"configuration": configuration.name, "reason": why}]},
                footprint, devices, neighbours)
        return Decision(configuration, placed.placement, expected, {
            **document, "chosen": {**entry, "beside": beside_document(placed.beside),
                                   **placement_document(placed.placement)}})

    def _no_room(self, message: str, document: Mapping[str, Any], footprint: Footprint,
                 devices: Sequence[Device], neighbours: Sequence[Neighbour]) -> RefusedError:
        """The refusal for want of memory, with the moves that would make room."""
        moves = room_by_moving(footprint, devices, neighbours, self._cluster.accelerator)
        if moves is not None:
            names = " and ".join(move["name"] for move in moves["moves"])
            message += f"; moving {names} would make room"
        return RefusedError("no_room", message, {**document, "make_room": moves})


def profile_runs(path: Path, model: str, spec: ModelSpec) -> list[ProfiledRun]:
    """Return the runs of a model from a profile's folder or a table with MaverIQ's columns.

    Raises InputError where there are none, or where their architecture differs.
    """
    if path.is_file():
        known = read_table(path)
        runs = [run for run in known if run.model == model]
        if not runs:
            raise InputError(f"{path}: no fingerprints of {model}"
                             f"{nearest(model, {run.model for run in known})}")
        problem = implausible(runs, spec, list(load_catalog().accelerators.values()))
        if problem:
            raise InputError(problem)
        return runs
    profile = read_profile(path)
    measured = profile.document.get("subject", {}).get("architecture", {})
    for name in ("num_layers", "hidden_size", "num_heads"):
        if measured.get(name) not in (None, getattr(spec, name)):
            raise InputError(f"{path}: {name} is {measured[name]} there; {model} has "
                             f"{getattr(spec, name)}")
    runs = [replace(run, model=model) for run in profiled_runs(profile)]
    if not runs:
        raise InputError(f"{path}: no batches were measured there; penstock profile fingerprint "
                         "makes such a profile")
    return same_prompts(runs)


def own_estimator(subject: Subject, model: str, runs: Sequence[ProfiledRun]) -> Estimator:
    """Return an estimator from a model's own runs alone. It is fitted where some runs are of the
    whole model; where all runs are of cuts, it has the usual weights."""
    whole = [run for run in runs if run.num_layers == subject.model.num_layers]
    cuts = [run for run in runs if run.num_layers < subject.model.num_layers]
    subjects = {model: subject}
    if len({run.output_tokens for run in whole if run.latency_s is not None}) > 1:
        return fit_estimator([Session(whole, Cuts(cuts))], subjects, Cuts(cuts))
    return usual_estimator(subjects, cuts or runs)


def _table(accuracy: Mapping[str, float]) -> Mapping[tuple[str, str, str], float]:
    return accuracies(accuracy) if accuracy else {}


def _is_full(choice: Choice) -> bool:
    return bool(choice.rejected) and all(why.startswith("no room") for _, why in choice.rejected)


def _bare_memory(spec: ModelSpec, configuration: Configuration, intent: DeployIntent) -> Prediction:
    """Return a lower bound of memory before any measurement: weights, and the KV cache of ``batch``
    contexts of full length."""
    weights = (spec.num_params - spec.embedding_params) * width_of(configuration.precision) \
        + spec.embedding_params * max(2.0, width_of(configuration.precision))
    kv_bytes = spec.kv_bytes_per_token("fp16") * width_of(configuration.kv_precision) / 2.0
    value = weights + intent.batch * spec.max_context_tokens * kv_bytes
    return Prediction(value, value, value, 0.0, "weights and cache alone; nothing was measured")


def _bare_footprint(model: str, subject: Subject, configuration: Configuration,
                    expected: Expected) -> Footprint:
    assert expected.memory_bytes is not None
    spread, layers = configuration.parallelism, subject.model.num_layers
    layer_bytes = subject.layer_params * width_of(configuration.precision) / spread.tensor
    rest = expected.memory_bytes.value / spread.num_accelerators \
        - layer_bytes * layers / spread.pipeline
    return Footprint(model, layers, spread.tensor, spread.pipeline, max(1, round(layer_bytes)),
                     fixed_bytes=max(0, round(rest)))


def _document(one: Deployment, intent: DeployIntent, choice: Choice, found: Options,
              estimator: Estimator) -> dict[str, Any]:
    def entry(scored: Scored | None) -> dict[str, Any] | None:
        if scored is None:
            return None
        return {**scored_document(scored),
                "wait_s": scored.response_s - scored.candidate.latency_s.value,
                "beside": beside_document(scored.candidate.beside),
                **placement_document(found.placements[scored.candidate.configuration])}

    spec = estimator.subjects[one.model].model
    return {"name": one.name, "model": one.model, "intent": intent.criteria.intent,
            "chosen": entry(choice.chosen), "nearest": entry(choice.nearest),
            "alternatives": [entry(other) for other in choice.alternatives],
            "rejected": rejected_document(choice),
            "measure_next": advice(one.model, spec.num_layers, found.estimates,
                                   spec.leading_dense_layers)}
