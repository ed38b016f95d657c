"""KEDA's external scaler: a gRPC service that tells KEDA Penstock's number of replicas.

The service and its messages are those of KEDA's ``externalscaler.proto``, declared here because no
package has them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

from penstock.core.errors import InputError, missing_extra
from penstock.engines.http import url_of
from penstock.serving.grpc_messages import Field, Message, declared

SERVICE = "externalscaler.ExternalScaler"
METRIC = "penstock-desired-replicas"
LOOK_S = 1.0
"""Time between two looks for a stream whose number may have changed."""

_MESSAGES: Mapping[str, Message] = {
    "ScaledObjectRef": {"name": Field(1, "string"), "namespace": Field(2, "string"),
                        "scalerMetadata": Field(3, "string", keyed=True)},
    "IsActiveResponse": {"result": Field(1, "bool")},
    "MetricSpec": {"metricName": Field(1, "string"), "targetSize": Field(2, "int64"),
                   "targetSizeFloat": Field(3, "double")},
    "GetMetricSpecResponse": {"metricSpecs": Field(1, "MetricSpec", many=True)},
    "GetMetricsRequest": {"scaledObjectRef": Field(1, "ScaledObjectRef"),
                          "metricName": Field(2, "string")},
    "MetricValue": {"metricName": Field(1, "string"), "metricValue": Field(2, "int64"),
                    "metricValueFloat": Field(3, "double")},
    "GetMetricsResponse": {"metricValues": Field(1, "MetricValue", many=True)}}


class Asked(NamedTuple):
    """Group of a Fleet that a ScaledObject asks for: the group's name, or its number."""

    namespace: str
    fleet: str
    group: str


@cache  # the extra may be absent, so nothing is declared on import
def messages() -> Mapping[str, Any]:
    """Return the message classes by their name."""
    return vars(declared("externalscaler", _MESSAGES))


def asked(ref: Any) -> Asked:
    """Return the group that a ScaledObject's trigger names. Raises InputError."""
    metadata = dict(ref.scalerMetadata)
    fleet, group = metadata.get("fleet", ""), metadata.get("group", "0")
    if not fleet:
        raise InputError("the trigger's metadata: fleet is left out; expected the name of a Fleet "
                         "in the ScaledObject's namespace")
    if not group.replace("-", "").isalnum():
        raise InputError(f"the trigger's metadata: group: found {group[:20]!r}; expected the "
                         "name of a group of the Fleet, or its number in replicas")
    return Asked(ref.namespace, fleet, group)


class ExternalScaler:
    """The service. ``wanted`` returns the number of a group, None before a decision: KEDA then gets
    an error, and keeps what there is."""

    def __init__(self, wanted: Callable[[Asked], int | None]) -> None:
        self._wanted = wanted

    async def is_active(self, request: Any, context: Any) -> Any:
        """Return whether any replica is wanted."""
        return messages()["IsActiveResponse"](result=await self._number(request, context) > 0)

    async def stream_is_active(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Yield whether any replica is wanted, now and whenever that changes."""
        told: bool | None = None
        while True:
            active = await self._number(request, context) > 0
            if active != told:
                told = active
                yield messages()["IsActiveResponse"](result=active)
            await asyncio.sleep(LOOK_S)

    async def get_metric_spec(self, request: Any, context: Any) -> Any:
        """Return the metric's name, and the target 1: one replica for each."""
        await self._asked(request, context)
        kinds = messages()
        return kinds["GetMetricSpecResponse"](metricSpecs=[kinds["MetricSpec"](
            metricName=METRIC, targetSize=1, targetSizeFloat=1.0)])

    async def get_metrics(self, request: Any, context: Any) -> Any:
        """Return the number of replicas. KEDA takes the float where it is above 0."""
        number = await self._number(request.scaledObjectRef, context)
        kinds = messages()
        return kinds["GetMetricsResponse"](metricValues=[kinds["MetricValue"](
            metricName=request.metricName or METRIC, metricValue=number,
            metricValueFloat=float(number))])

    async def _asked(self, ref: Any, context: Any) -> Asked:
        import grpc

        try:
            return asked(ref)
        except InputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    async def _number(self, ref: Any, context: Any) -> int:
        import grpc

        group = await self._asked(ref, context)
        number = self._wanted(group)
        if number is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, (
                f"nothing is decided for the group {group.group} of the Fleet "
                f"{group.namespace}/{group.fleet}"))
            raise AssertionError("abort raises")
        return number

    def handler(self) -> Any:
        """Return the service for a gRPC server."""
        import grpc

        kinds = messages()

        def unary(method: Any, request: str) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method, kinds[request].FromString, lambda answer: answer.SerializeToString())

        return grpc.method_handlers_generic_handler(SERVICE, {
            "IsActive": unary(self.is_active, "ScaledObjectRef"),
            "GetMetricSpec": unary(self.get_metric_spec, "ScaledObjectRef"),
            "GetMetrics": unary(self.get_metrics, "GetMetricsRequest"),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                self.stream_is_active, kinds["ScaledObjectRef"].FromString,
                lambda answer: answer.SerializeToString())})


@asynccontextmanager
async def serving(scaler: ExternalScaler, host: str, port: int) -> AsyncIterator[str]:
    """Yield the address of the service, which runs until the context ends. Raises InputError where
    the address cannot be bound."""
    try:
        import grpc
    except ImportError as error:
        raise missing_extra("--external-scaler-port", "kubernetes", error) from error
    server = grpc.aio.server(maximum_concurrent_rpcs=1000)
    server.add_generic_rpc_handlers((scaler.handler(),))
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise InputError(f"--external-scaler-port {port}: cannot be bound on {host} "
                         f"({str(error)[:100]})") from None
    await server.start()
    try:
        yield url_of(host, bound, "grpc")
    finally:
        await server.stop(grace=1.0)
