"""Builds the driver of a pool from the fleet file, with an actuator for each engine."""

from penstock.core.errors import InputError
from penstock.engines.actuators.protocol import Actuator
from penstock.engines.engine import ActuatorContext, EngineEnvironment, engine_of
from penstock.fleet.multiplex_factory import devices_of, policy_of
from penstock.fleet.values import Fleet
from penstock.fleet.values_multiplexing import DevicePool, SwappedModel
from penstock.serving.multiplex.driver import MultiplexDriver
from penstock.serving.multiplex.tickets import Rules


def driver_of(fleet: Fleet, pool: DevicePool, around: EngineEnvironment) -> MultiplexDriver:
    """Return the driver of a pool. Raises InputError for a model without an engine."""
    actuators = [[actuator_of(fleet, pool, model, device, around) for model in pool.models]
                 for device in range(pool.count)]
    rules = Rules(pool.load_timeout_s, pool.load_attempts, set_apart_s=pool.set_apart_s,
                  max_queue=pool.max_queue, max_wait_s=pool.max_wait_s)
    return MultiplexDriver(policy_of(pool, fleet.service_classes), devices_of(pool), actuators,
                           rules, around.loop, around.note)


def actuator_of(fleet: Fleet, pool: DevicePool, model: SwappedModel, device: int,
                around: EngineEnvironment) -> Actuator:
    """Return the actuator that loads and unloads a model on a device of a pool."""
    engine = model.engine
    if engine is None:
        raise InputError(f"multiplexing: {pool.name}: {model.spec.name} has no engine, which "
                         "serving it needs; expected for example engine: {kind: vllm, endpoints: "
                         "[http://127.0.0.1:8001]}")
    make = engine_of(engine.kind).actuator
    assert make is not None, "the fleet file was validated"
    return make(ActuatorContext(fleet, pool, model, engine, device, around))
