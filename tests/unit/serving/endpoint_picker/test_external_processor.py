"""The declared messages against those that a package publishes."""

import importlib

import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")

from penstock.serving.endpoint_picker import external_processor as ours

PLACES = {"envoy.config.core.v3.base_pb2": ("HeaderValue", "HeaderMap", "HeaderValueOption",
                                            "Metadata"),
          "envoy.type.v3.http_status_pb2": ("HttpStatus",)}
KINDS = {14: 5}  # an enumeration is an int32 here, which has the same bytes


def published(name):
    place = next((place for place, names in PLACES.items() if name in names),
                 "envoy.service.ext_proc.v3.external_processor_pb2")
    return getattr(importlib.import_module(place), name).DESCRIPTOR


@pytest.mark.parametrize("name", ours.MESSAGES)
def test_every_declared_field_is_a_published_one(name):
    pytest.importorskip("envoy.service.ext_proc.v3.external_processor_pb2",
                        reason="xds-protos is not installed: it overwrites OpenTelemetry")
    theirs = {field.name: field for field in published(name).fields}
    for field in getattr(ours._CLASSES, name).DESCRIPTOR.fields:
        other = theirs[field.name]
        assert (field.number, field.is_repeated) == (other.number, other.is_repeated)
        assert field.type == KINDS.get(other.type, other.type)
        assert (field.containing_oneof and field.containing_oneof.name) == (
            other.containing_oneof and other.containing_oneof.name)


def test_a_reply_has_the_published_bytes():
    reply = ours.ProcessingResponse()
    reply.request_headers.response.clear_route_cache = True
    one = reply.request_headers.response.header_mutation.set_headers.add()
    one.header.key, one.header.raw_value, one.append_action = "k", b"v", 2
    reply.dynamic_metadata.fields["s"].string_value = "t"
    option = b"\x0a\x06" b"\x0a\x01k" b"\x1a\x01v" b"\x18\x02"
    mutation = b"\x0a" + bytes([len(option)]) + option
    common = b"\x12" + bytes([len(mutation)]) + mutation + b"\x28\x01"
    headers = b"\x0a" + bytes([len(common)]) + common
    assert reply.SerializeToString() == (
        b"\x0a" + bytes([len(headers)]) + headers + b"\x42\x0a" b"\x0a\x08" b"\x0a\x01s"
        b"\x12\x03" b"\x1a\x01t")


def test_a_request_is_read_and_what_is_not_declared_is_passed_over():
    body = b"\x0a\x02hi" b"\x10\x01" b"\x18\x01"  # a field that is not declared here, too
    message = ours.ProcessingRequest.FromString(b"\x22" + bytes([len(body)]) + body + b"\x50\x01")
    assert message.WhichOneof("request") == "request_body"
    assert (message.request_body.body, message.request_body.end_of_stream) == (b"hi", True)
    assert message.observability_mode
