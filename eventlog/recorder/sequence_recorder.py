"""What the recorders of an application and of a workspace share: the sequence of all events."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from eventsourcing.persistence import ApplicationRecorder, Notification, Subscription

from eventlog.recorder.history import History, RawEntry
from eventlog.recorder.selection import select_range
from eventlog.recorder.session import Session
from eventlog.recorder.subscription import JetStreamSubscription
from eventlog.subjects import Subjects


class SequenceRecorder(ApplicationRecorder):
    """Select and follow a stream's events; a notification's id is the sequence in the stream."""

    _session: Session
    _subjects: Subjects
    _history: History

    @abstractmethod
    def _notification(self, entry: RawEntry) -> Notification:
        """Give an entry as the library's readers know it."""

    def _select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read from one id to another, up to the end as of now."""
        first = 1 if start is None else start if inclusive_of_start else start + 1
        return self._session.call(
            lambda: select_range(
                self._history,
                self._notification,
                first=max(first, 1),
                last=stop,
                limit=limit,
                is_wanted=lambda found: not topics or found.topic in topics,
            )
        )

    select_notifications = _select_notifications
    """The library's signature, which takes more by position than functions of ours do."""

    def max_notification_id(self) -> int | None:
        """Give the id of the last event; None when there is none."""
        return self._session.call(self._history.last_revision) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Follow the sequence after an id, for ever."""
        return JetStreamSubscription(
            self,
            gt,
            topics,
            session=self._session,
            subjects=self._subjects,
            to_notification=self._notification,
        )
