"""The packages that an endpoint picker needs beyond Penstock's own."""

from importlib import import_module

from penstock.core.errors import missing_extra

_MODULES = ("grpc", "grpc_health.v1.health", "google.protobuf.struct_pb2")


def check_packages() -> None:
    """Raise InputError where the extra is not installed."""
    try:
        for name in _MODULES:
            import_module(name)
    except ImportError as error:
        raise missing_extra("penstock endpoint-picker", "kubernetes", error) from error
