"""Lines of a file as intake sees them: their ids, what columns mean, imports of consent (R9)."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.intake.cloud_events import Decoded, Rejection
from actors.intake.grouping import Ticket, make_command
from actors.intake.imported import FAULT, LINE_ID, LineDecoder
from actors.intake.line_queue import LineFaults, LineQueue, LineReader, Place
from actors.intake.lines import Columns, Line, UnknownColumn, csv_lines, csv_text, json_lines
from actors.intake.port import RejectedMessage
from actors.intake.segment_spec import ConsentCall, IdentifyCall, SignalCall
from domain.commands import RecordConsent
from domain.consent import ConsentState, LawfulBasis
from domain.errors import Invalid
from domain.rules import Purpose, Rules, Source
from tests.intake.fakes import CountingClock
from tests.intake.messages import NORMALISER, RECEIVED_AT, event, message, track

TIME = "2024-05-01T10:00:00Z"
SHOP = Source("shop", frozenset({"service"}), 0, consent_categories={"ads": ("marketing", "news")})
PURPOSES = {
    name: Purpose(name, LawfulBasis.CONSENT, "") for name in ("service", "marketing", "news")
}
DECODER = LineDecoder("shop", NORMALISER, lambda: Rules(1, PURPOSES, {"shop": SHOP}))


CONSENT = {
    "type": "consent",
    "userId": "1",
    "purpose": "marketing",
    "state": "given",
    "timestamp": TIME,
}


def ids(lines: Iterable[bytes]) -> list[str]:
    return [line.line_id for line in json_lines(lines)]


def rows(text: str, **columns: Any) -> list[dict[str, Any]]:
    return [
        orjson.loads(line.data) for line in csv_lines(text.splitlines(True), Columns(**columns))
    ]


def read(data: bytes) -> list[Line]:
    """Read the bytes of a CSV file."""
    return list(csv_lines(csv_text(io.BytesIO(data)), Columns()))


def decoded(line: object) -> list[Any]:
    """Decode a line; of one that cannot be used, give the reason."""
    asked = message(line, headers={LINE_ID: "line-1"})
    return [item.call if isinstance(item, Decoded) else item.reason for item in DECODER(asked)]


@given(st.lists(st.sampled_from([b'{"a":1}', b'{"a":2}', b"", b"nonsense"])))
def test_ids_stay_when_a_file_is_read_again_or_has_grown(lines: list[bytes]) -> None:
    found = ids(lines)
    assert len(set(found)) == len(found)
    assert ids([*lines, b'{"a":1}', b"more"])[: len(found)] == found
    assert sorted(ids(lines[::-1])) == sorted(found)


def test_columns_are_named_as_the_fields_that_they_fill() -> None:
    text = (
        "type,userId,timestamp,event,properties.amount:number,properties.sku,external.loyalty_id,"
        f"consent.ads\r\ntrack,42,{TIME},Order Completed,29.33,007,L1,true\r\n"
        f',7,{TIME},"A\n,B",,,,\r\n'
    )
    first, second = rows(text, defaults={"type": "track"})
    assert first == {
        "type": "track",
        "userId": "42",
        "timestamp": TIME,
        "event": "Order Completed",
        "properties": {"amount": 29.33, "sku": "007"},
        "context": {
            "externalIds": [{"type": "loyalty_id", "id": "L1"}],
            "consent": {"categoryPreferences": {"ads": True}},
        },
    }
    assert second == {"type": "track", "userId": "7", "timestamp": TIME, "event": "A\n,B"}


def test_a_column_that_means_nothing_is_not_left_out_without_a_word() -> None:
    with pytest.raises(UnknownColumn):
        rows("userId,shoe size\n1,42\n")
    assert rows("userId,shoe size\n1,42\n", named={"shoe size": ""}) == [{"userId": "1"}]
    named = {"shoe size": "traits.shoes:number"}
    assert rows("userId,shoe size\n1,42\n", named=named) == [
        {"userId": "1", "traits": {"shoes": 42}}
    ]


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("userId,userId", {}),
        ("userId,traits.age,traits.age", {}),
        ("userId,traits.age,traits.age:number", {}),
        ("userId,external.card,external.card", {}),
        ("userId,consent.ads,consent.ads", {}),
        ("userId,context.externalIds:json,external.card", {}),
        ("userId,consent.ads,context.consent:json", {}),
        ("userId,Customer No", {"Customer No": "userId"}),
    ],
)
def test_columns_that_fill_the_same_field_are_refused(header: str, named: dict[str, str]) -> None:
    row = ",".join("1" for _ in header.split(","))
    with pytest.raises(Invalid) as refused:
        rows(f"{header}\n{row}\n", named=named)
    assert refused.value.reason == "INVALID_COLUMNS"


def test_columns_that_are_left_out_may_have_one_name() -> None:
    text = "userId,note,note,traits.age,properties.age\n1,a,b,2,3\n"
    assert rows(text, named={"note": ""}) == [
        {"userId": "1", "traits": {"age": "2"}, "properties": {"age": "3"}}
    ]


def test_a_row_that_cannot_be_read_is_named_and_the_next_one_is_read() -> None:
    text = "userId,traits.age:number,consent.ads\n1,old,\n2,3\n3,,perhaps\n4,5,true\n"
    lines = list(csv_lines(text.splitlines(True), Columns()))
    assert [(line.number, line.fault) for line in lines] == [
        (2, "INVALID_VALUE"),
        (3, "MALFORMED_CSV"),
        (4, "INVALID_VALUE"),
        (5, None),
    ]


def test_rows_that_are_not_utf_8_are_named_and_those_around_them_are_read() -> None:
    named = ["Jörg".encode("latin-1"), b"7", "Jürg".encode(), "Jör".encode("latin-1")[:2]]
    quoted = b'"two\nl\xefnes"'
    lines = read(b"\n".join([b"\xef\xbb\xbfuserId", *named, quoted, b"8", b""]))
    assert [(line.number, line.fault) for line in lines] == [
        (2, "MALFORMED_CSV"),
        (3, None),
        (4, None),
        (5, "MALFORMED_CSV"),
        (7, "MALFORMED_CSV"),
        (8, None),
    ]
    users = [orjson.loads(line.data)["userId"] for line in lines if line.fault is None]
    assert users == ["7", "Jürg", "8"]


def test_a_row_that_is_not_utf_8_is_refused_for_columns_that_are_left_out_too() -> None:
    text = csv_text(io.BytesIO(b"userId,note\n1,J\xf6rg\n"))
    [line] = csv_lines(text, Columns(named={"note": ""}))
    assert line.fault == "MALFORMED_CSV"


@pytest.mark.parametrize("name", ["traits.größe", "größe"])
def test_a_first_row_that_is_not_utf_8_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(f"userId,{name}\n1,2\n".encode("latin-1"))
    assert refused.value.reason == "MALFORMED_CSV"


def test_a_json_line_that_is_not_utf_8_is_refused_alone() -> None:
    good = orjson.dumps(track(timestamp=TIME))
    bad = good.replace(b'"1"', '"Jörg"'.encode("latin-1"))
    first, second = json_lines([bad, good])
    assert decoded(first.data) == ["MALFORMED_JSON"]
    assert isinstance(decoded(second.data)[0], SignalCall)


def test_an_id_that_lost_bytes_before_names_nobody() -> None:
    assert decoded(track(timestamp=TIME, userId="J\ufffdrg")) == ["INVALID_IDENTIFIER"]


def test_a_line_is_a_call_or_a_cloud_event() -> None:
    (call,) = decoded(track(timestamp=TIME))
    assert isinstance(call, SignalCall)
    assert call.signal.message_id == "line-1"
    (own,) = decoded(track(timestamp=TIME, messageId="m7"))
    assert own.signal.message_id == "m7"
    (wrapped,) = decoded(event(track(), time=TIME))
    assert wrapped.signal.message_id == "m1"
    (known,) = decoded({"type": "identify", "userId": "1", "traits": {"a": 1}, "timestamp": TIME})
    assert isinstance(known, IdentifyCall)


def test_a_line_that_does_not_say_when_is_refused() -> None:
    assert decoded(track()) == ["MISSING_TIMESTAMP"]
    assert decoded(event(track())) == ["MISSING_TIMESTAMP"]
    assert decoded(b"{") == ["MALFORMED_JSON"]
    assert decoded([1]) == ["INVALID_DATA"]
    assert decoded(track(timestamp=TIME, userId="")) == ["EMPTY_IDENTIFIER"]
    (broken,) = DECODER(message(b"", headers={FAULT: "MALFORMED_CSV"}))
    assert isinstance(broken, Rejection)
    assert broken.reason == "MALFORMED_CSV"


def test_choices_become_imports_one_for_each_purpose_before_what_they_came_with() -> None:
    context = {"consent": {"categoryPreferences": {"ads": False, "else": True}}}
    first, second, call = decoded(track(timestamp=TIME, context=context))
    acts = [(a.purpose, a.state, a.happened_at.isoformat()) for a in (first, second)]
    when = "2024-05-01T10:00:00+00:00"
    refused = ConsentState.REFUSED
    assert acts == [("marketing", refused, when), ("news", refused, when)]
    assert (isinstance(call, SignalCall), call.choices) == (True, {})


def test_a_consent_line_is_an_act_with_its_details() -> None:
    line = {
        **CONSENT,
        "noticeVersion": "3",
        "validUntil": "2030-01-01T00:00:00Z",
        "evidence": {"form": "paper"},
    }
    (act,) = decoded(line)
    assert isinstance(act, ConsentCall)
    assert (act.state, act.details["notice_version"], act.details["evidence"]) == (
        ConsentState.GIVEN,
        "3",
        {"form": "paper"},
    )
    assert decoded({**line, "state": "agreed"}) == ["INVALID_CONSENT_STATE"]
    assert decoded({**line, "purpose": "No Purpose"}) == ["INVALID_FIELD"]
    assert decoded({**line, "evidence": "paper"}) == ["INVALID_FIELD"]
    assert decoded({**line, "timestamp": "yesterday"}) == ["INVALID_TIMESTAMP"]


def test_of_an_act_that_is_dated_only_the_day_is_known() -> None:
    for timestamp, is_day in (("2024-05-01", True), (TIME, False)):
        line = {**CONSENT, "timestamp": timestamp}
        (act,) = decoded(line)
        command = make_command([Ticket(message(line), 0, "shop", act, 1)], CountingClock())
        assert isinstance(command, RecordConsent)
        assert command.happened_at.date().isoformat() == "2024-05-01"
        assert command.is_day_precise is is_day


@pytest.mark.parametrize("wrong", ["2024-02-30", "2024-5-1", "20240501", "2024-05-01 ", "2024-05"])
def test_a_date_that_is_none_is_refused(wrong: str) -> None:
    assert decoded({**CONSENT, "timestamp": wrong}) == ["INVALID_TIMESTAMP"]


def test_a_call_of_the_segment_spec_says_the_time_too() -> None:
    assert decoded(track(timestamp="2024-05-01")) == ["INVALID_TIMESTAMP"]


@pytest.mark.parametrize("wrong", [0, False, "", [], {}, 1, 1.5, True, "soon"])
def test_an_agreement_whose_end_cannot_be_read_is_not_taken_for_an_endless_one(
    wrong: object,
) -> None:
    assert decoded({**CONSENT, "validUntil": wrong}) == ["INVALID_TIMESTAMP"]


def test_an_agreement_that_names_no_end_has_none() -> None:
    for line in (CONSENT, {**CONSENT, "validUntil": None}):
        (act,) = decoded(line)
        assert act.details.get("valid_until") is None


@pytest.mark.parametrize("name", ["valid_until", "validuntil", "ValidUntil", "event", "traits"])
def test_a_consent_line_says_nothing_that_is_lost_without_a_word(name: str) -> None:
    assert decoded({**CONSENT, name: "2030-01-01T00:00:00Z"}) == ["UNKNOWN_FIELD"]


def test_a_consent_line_may_say_all_that_its_form_has() -> None:
    (act,) = decoded(
        {
            **CONSENT,
            "messageId": "m1",
            "anonymousId": "a1",
            "context": {"externalIds": [{"type": "loyalty_id", "id": "L1"}], "else": 1},
            "noticeVersion": "3",
            "noticeLanguage": "de",
            "jurisdiction": "DE",
            "method": "form",
            "validUntil": TIME,
            "evidence": {"form": "paper"},
        }
    )
    assert [identifier.value for identifier in act.identifiers] == ["1", "L1", "a1"]
    assert act.details["valid_until"].isoformat() == "2024-05-01T10:00:00+00:00"


@pytest.mark.parametrize("kind", ["track", "identify", "page", "screen"])
def test_a_call_of_the_segment_spec_may_have_fields_that_are_unknown(kind: str) -> None:
    call = {**track(type=kind, timestamp=TIME), "sentAt": TIME, "valid_until": 0}
    assert isinstance(decoded(call)[0], SignalCall | IdentifyCall)


async def test_lines_that_came_back_go_first_and_the_place_stays_before_them() -> None:
    lines = [Line(n, b"x", f"line-{n}") for n in range(1, 7)]
    told: list[tuple[int, Place]] = []
    queue = LineQueue(
        LineReader(lines), subject="s", settled=lambda count, place: told.append((count, place))
    )
    first = await queue.pull(batch_messages_max=2, wait_seconds=0, gather_seconds=0)
    second = await queue.pull(batch_messages_max=2, wait_seconds=0, gather_seconds=0)
    await queue.ack(second)
    assert (told[-1][0], told[-1][1].number) == (2, 0)
    await queue.nak(first, delay_seconds=0)
    again = await queue.pull(batch_messages_max=2, wait_seconds=1, gather_seconds=0)
    assert [(m.sequence, m.deliveries) for m in again] == [(1, 2), (2, 2)]
    await queue.ack(again)
    place = told[-1][1]
    assert (place.number, place.lines) == (4, 4)
    assert LineReader(lines).skip_to(place)
    assert not LineReader(lines[:3]).skip_to(place)
    assert not LineReader([*lines[:2], Line(3, b"y", "line-3"), *lines[3:]]).skip_to(place)


async def test_an_import_stops_over_a_line_that_is_never_settled() -> None:
    queue = LineQueue(
        LineReader([Line(1, b"x", "line-1")]), subject="s", settled=lambda _count, _place: None
    )
    found = await queue.pull(batch_messages_max=1, wait_seconds=0, gather_seconds=0)
    for _ in range(12):
        await queue.nak(found, delay_seconds=0)
        found = await queue.pull(batch_messages_max=1, wait_seconds=1, gather_seconds=0)
    assert (found, queue.stopped_by) == ([], "HOSTS_UNAVAILABLE")
    await queue.wait_done()


async def test_every_line_that_cannot_be_used_is_named_with_its_reason() -> None:
    faults = LineFaults()
    for origin, reason in [("3-0", "A"), ("3-1", "A"), ("7-0", "B")]:
        await faults.put(RejectedMessage(origin, reason, "s", {}, b"", RECEIVED_AT))
    assert faults.named == [(3, "A"), (7, "B")]
    assert faults.counted == {"A": 1, "B": 1}
    assert faults.up_to(6).named == [(3, "A")]
    assert faults.up_to(6).counted == {"A": 1}
