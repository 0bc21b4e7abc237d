"""Where each event stream of a workspace lies: subjects, the log's stream name, and back again.

Ids that stand in subjects are checked here, so nothing above can publish outside its workspace.
"""

from __future__ import annotations

import re
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.ids import CLOCK_STREAM, WORKSPACE_STREAM, RecordId, Stream, StreamKind

WORKSPACE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RECORD_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IDENTIFIER_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,128}")


class Subjects:
    """Translate between streams and subjects of one workspace."""

    def __init__(self, workspace: str) -> None:
        if not WORKSPACE_NAME.fullmatch(workspace):
            raise ValueError("a workspace's name must match [a-z][a-z0-9_]{0,63}")
        self.workspace = workspace
        self.log_name = f"koseki-{workspace}-log"
        self._prefix = f"koseki.{workspace}."
        self._record = f"{self._prefix}record."
        self._identifier = f"{self._prefix}identifier."
        self._single = {
            f"{self._prefix}workspace": WORKSPACE_STREAM,
            f"{self._prefix}clock": CLOCK_STREAM,
        }

    @property
    def filters(self) -> tuple[str, ...]:
        """The subjects that the log's stream takes in, and no others."""
        return (f"{self._record}*", f"{self._identifier}*.*", *self._single)

    def subject_of(self, stream: Stream) -> str:
        """Give the subject of a stream; `ValueError` for a key that cannot stand in one."""
        match stream.kind:
            case StreamKind.RECORD if _RECORD_KEY.fullmatch(stream.key):
                return self._record + stream.key
            case StreamKind.IDENTIFIER if _IDENTIFIER_KEY.fullmatch(stream.key):
                return self._identifier + stream.key
            case StreamKind.WORKSPACE if not stream.key:
                return f"{self._prefix}workspace"
            case StreamKind.CLOCK if not stream.key:
                return f"{self._prefix}clock"
        raise ValueError(f"a {stream.kind} stream cannot have this key")

    def uuid_of(self, stream: Stream) -> UUID:
        """Give a stream's id as a UUID: a record's own, else the UUIDv5 of its subject.

        `ValueError` for a record whose key is no UUID.
        """
        if stream.kind is StreamKind.RECORD:
            return UUID(stream.key)
        return uuid5(NAMESPACE_URL, self.subject_of(stream))

    def require_id(self, stream: Stream) -> None:
        """Raise `ValueError` where a stream has no id; those of our own form have one."""
        if stream.kind is not StreamKind.RECORD or not _RECORD_KEY.fullmatch(stream.key):
            self.uuid_of(stream)

    def record_of(self, subject: str) -> RecordId | None:
        """Give the record whose stream lies under a subject; None for any other stream."""
        if subject.startswith(self._record):
            return RecordId(subject[len(self._record) :])
        return None

    def is_clock(self, subject: str) -> bool:
        """Whether a subject is that of the clock."""
        return self._single.get(subject) is CLOCK_STREAM

    def stream_of(self, subject: str) -> Stream:
        """Give the stream that lies under a subject; `ValueError` for any other subject."""
        if subject.startswith(self._record):
            return Stream(StreamKind.RECORD, subject[len(self._record) :])
        if subject.startswith(self._identifier):
            return Stream(StreamKind.IDENTIFIER, subject[len(self._identifier) :])
        if subject in self._single:
            return self._single[subject]
        raise ValueError("the subject is not one of this workspace's log")
