"""The contract as its descriptors have it: its services, and the names of fields."""

from __future__ import annotations

from koseki.v1 import (
    audit_service_pb2,
    common_pb2,
    customer_service_pb2,
    ingest_service_pb2,
    query_service_pb2,
    segment_service_pb2,
    workspace_service_pb2,
)

_FILES = (
    common_pb2.DESCRIPTOR,
    customer_service_pb2.DESCRIPTOR,
    ingest_service_pb2.DESCRIPTOR,
    query_service_pb2.DESCRIPTOR,
    segment_service_pb2.DESCRIPTOR,
    workspace_service_pb2.DESCRIPTOR,
)
SERVICES = {
    service.full_name: service
    for file in (audit_service_pb2.DESCRIPTOR, *_FILES)
    for service in file.services_by_name.values()
}
FIELD_NAMES = frozenset(
    field.name
    for file in _FILES
    for message in file.message_types_by_name.values()
    for field in message.fields
)
"""Of all but audits: a refusal tells no other name, for it may be a caller's own."""
