"""Events that grew fields: what was stored before is read as if it had said the default."""

from __future__ import annotations

import orjson
import pytest

from eventlog.registry import EVENTS

ID = "01890000-0000-7000-8000-000000000001"
RELEASED: dict[str, str] = {
    "koseki.record.identifiers-linked.v1": '{"identifiers":[],"keys":["p1.abc"],"source":"shop"}',
    "koseki.record.traits-set.v1": '{"message_id":null,"source":"shop","traits":{"a":1}}',
    "koseki.record.signals-recorded.v1": '{"signals":[],"source":"shop"}',
    "koseki.customer.merged.v1": (
        f'{{"component":["{ID}"],"edges":[],"evidence":["p1.abc"],"live_edges":[],"root":"{ID}"}}'
    ),
}
GROWN = {
    "koseki.record.identifiers-linked.v1": {"left_out": []},
    "koseki.record.traits-set.v1": {"left_out": []},
    "koseki.record.signals-recorded.v1": {"left_out": []},
    "koseki.customer.merged.v1": {
        "separations": [],
        "reason": "identifiers_met",
        "rules_version": 0,
    },
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_body_of_before_is_read_with_the_defaults(name: str) -> None:
    event = EVENTS[name].model_validate_json(RELEASED[name])
    assert event.model_dump(mode="json") == orjson.loads(RELEASED[name]) | GROWN[name]
