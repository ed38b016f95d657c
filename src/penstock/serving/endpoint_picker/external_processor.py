"""Envoy's external processing, version 3: the messages that an endpoint picker reads and writes.

Field numbers are those of ``envoy/service/ext_proc/v3/external_processor.proto`` and the files that
it imports. Fields that are left out here are passed over. Enumerations are numbers.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from penstock.serving.grpc_messages import STRUCT, Field, Message, declared

PACKAGE = "envoy.service.ext_proc.v3"
SERVICE = f"{PACKAGE}.ExternalProcessor"
METHOD = f"/{SERVICE}/Process"
OVERWRITE_IF_EXISTS_OR_ADD = 2
BODY_MODES: Mapping[int, str] = MappingProxyType(dict(enumerate((
    "NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"))))

MESSAGES: Mapping[str, Message] = {
    "HeaderValue": {"key": Field(1, "string"), "value": Field(2, "string"),
                    "raw_value": Field(3, "bytes")},
    "HeaderMap": {"headers": Field(1, "HeaderValue", many=True)},
    "HeaderValueOption": {"header": Field(1, "HeaderValue"), "append_action": Field(3, "int32"),
                          "keep_empty_value": Field(4, "bool")},
    "Metadata": {"filter_metadata": Field(1, STRUCT, keyed=True)},
    "HttpHeaders": {"headers": Field(1, "HeaderMap"), "end_of_stream": Field(3, "bool")},
    "HttpBody": {"body": Field(1, "bytes"), "end_of_stream": Field(2, "bool")},
    "HttpTrailers": {"trailers": Field(1, "HeaderMap")},
    "ProtocolConfiguration": {"request_body_mode": Field(1, "int32"),
                              "response_body_mode": Field(2, "int32"),
                              "send_body_without_waiting_for_header_response": Field(3, "bool")},
    "ProcessingRequest": {
        "request_headers": Field(2, "HttpHeaders", one_of="request"),
        "response_headers": Field(3, "HttpHeaders", one_of="request"),
        "request_body": Field(4, "HttpBody", one_of="request"),
        "response_body": Field(5, "HttpBody", one_of="request"),
        "request_trailers": Field(6, "HttpTrailers", one_of="request"),
        "response_trailers": Field(7, "HttpTrailers", one_of="request"),
        "metadata_context": Field(8, "Metadata"), "observability_mode": Field(10, "bool"),
        "protocol_config": Field(11, "ProtocolConfiguration")},
    "HeaderMutation": {"set_headers": Field(1, "HeaderValueOption", many=True),
                       "remove_headers": Field(2, "string", many=True)},
    "StreamedBodyResponse": {"body": Field(1, "bytes"), "end_of_stream": Field(2, "bool")},
    "BodyMutation": {"body": Field(1, "bytes", one_of="mutation"),
                     "clear_body": Field(2, "bool", one_of="mutation"),
                     "streamed_response": Field(3, "StreamedBodyResponse", one_of="mutation")},
    "CommonResponse": {"status": Field(1, "int32"), "header_mutation": Field(2, "HeaderMutation"),
                       "body_mutation": Field(3, "BodyMutation"),
                       "trailers": Field(4, "HeaderMap"), "clear_route_cache": Field(5, "bool")},
    "HeadersResponse": {"response": Field(1, "CommonResponse")},
    "BodyResponse": {"response": Field(1, "CommonResponse")},
    "TrailersResponse": {"header_mutation": Field(1, "HeaderMutation")},
    "HttpStatus": {"code": Field(1, "int32")},
    "GrpcStatus": {"status": Field(1, "uint32")},
    "ImmediateResponse": {"status": Field(1, "HttpStatus"), "headers": Field(2, "HeaderMutation"),
                          "body": Field(3, "bytes"), "grpc_status": Field(4, "GrpcStatus"),
                          "details": Field(5, "string")},
    "ProcessingResponse": {
        "request_headers": Field(1, "HeadersResponse", one_of="response"),
        "response_headers": Field(2, "HeadersResponse", one_of="response"),
        "request_body": Field(3, "BodyResponse", one_of="response"),
        "response_body": Field(4, "BodyResponse", one_of="response"),
        "request_trailers": Field(5, "TrailersResponse", one_of="response"),
        "response_trailers": Field(6, "TrailersResponse", one_of="response"),
        "immediate_response": Field(7, "ImmediateResponse", one_of="response"),
        "dynamic_metadata": Field(8, STRUCT)}}

_CLASSES = declared(PACKAGE, MESSAGES)
HttpBody: Any = _CLASSES.HttpBody
HttpTrailers: Any = _CLASSES.HttpTrailers
ProcessingRequest: Any = _CLASSES.ProcessingRequest
ProcessingResponse: Any = _CLASSES.ProcessingResponse


def handler(process: Any) -> Any:
    """Return the service for a gRPC server. ``process`` serves one stream."""
    import grpc

    return grpc.method_handlers_generic_handler(SERVICE, {
        "Process": grpc.stream_stream_rpc_method_handler(
            process, ProcessingRequest.FromString,
            lambda reply: reply.SerializeToString())})


def client(channel: Any) -> Any:
    """Return the method of a gRPC channel that opens a stream."""
    return channel.stream_stream(METHOD, request_serializer=lambda one: one.SerializeToString(),
                                 response_deserializer=ProcessingResponse.FromString)
