"""A file of lines as a queue of intake, so that the ingest worker itself carries an import.

`LineQueue` hands out lines and knows which are settled; `LineFaults` is where lines end that cannot
be used: each with its number and its reason. Neither keeps what stands in a line.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256

from actors.intake.imported import FAULT, LINE_ID
from actors.intake.lines import Line
from actors.intake.port import DeadLetter, IntakeMessage, QueueStats, RejectedMessage
from domain.errors import Invalid

ACK_WAIT_SECONDS = 60.0
DELIVERIES_MAX = 12
"""How often a line that cannot be settled is tried, some minutes; then the import ends."""

FAULTS_NAMED_MAX = 10_000
"""Lines that are named by number; of further ones only their reasons are counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far an import has come: so many lines, up to this one, are settled; what they held."""

    number: int = 0
    lines: int = 0
    digest: str = ""


class LineReader:
    """Reads lines in order, digesting them; `place` is behind the last."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._digest = sha256()
        self.place = Place()

    def next(self) -> Line | None:
        """Read a line; None at the end. Raises `Invalid`."""
        line = next(self._lines, None)
        if line is not None:
            self._digest.update(line.data)
            self._digest.update(line.number.to_bytes(8, "big"))
            self.place = Place(line.number, self.place.lines + 1, self._digest.hexdigest())
        return line

    def skip_to(self, place: Place) -> bool:
        """Read up to a place where an import stopped; false if the lines before it are others."""
        while self.place.number < place.number:
            if self.next() is None:
                return False
        return self.place == place


class LineQueue:
    """Hand out the lines of one import, those first that came back."""

    def __init__(
        self, reader: LineReader, *, subject: str, settled: Callable[[int, Place], None]
    ) -> None:
        self._reader = reader
        self._subject = subject
        self._tell_settled = settled
        self._again: list[tuple[float, int, IntakeMessage]] = []
        self._unsettled: set[int] = set()
        self._marks: deque[Place] = deque()
        self._is_read = False
        self._changed = asyncio.Event()
        self._through = reader.place
        self.settled = 0
        """How many lines were settled."""
        self.stopped_by: str | None = None
        """Why no more lines are handed out, where the file has more."""

    @property
    def ack_wait_seconds(self) -> float:
        """How long a line may stay unsettled; nobody else would take it."""
        return ACK_WAIT_SECONDS

    async def wait_done(self) -> None:
        """Wait until every line is settled, or the import has stopped."""
        while self.stopped_by is None and not (self._is_read and not self._unsettled):
            self._changed.clear()
            await self._changed.wait()

    async def pull(
        self,
        *,
        batch_messages_max: int,
        wait_seconds: float,
        gather_seconds: float,  # noqa: ARG002  # the port's; a file is there at once
    ) -> list[IntakeMessage]:
        """Give lines; none where those that are left are on their way, or have to wait."""
        found = self._take(batch_messages_max)
        if found:
            return found
        self._changed.clear()
        left = wait_seconds
        if self._again:
            left = min(left, max(0.0, self._again[0][0] - asyncio.get_running_loop().time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._changed.wait()
        return self._take(batch_messages_max)

    async def ack(self, messages: Sequence[IntakeMessage]) -> None:
        """Settle lines."""
        self._unsettled.difference_update(message.sequence for message in messages)
        self.settled += len(messages)
        first = min(self._unsettled, default=None)
        while self._marks and (first is None or self._marks[0].number < first):
            self._through = self._marks.popleft()
        self._tell_settled(self.settled, self._through)
        self._changed.set()

    async def nak(self, messages: Sequence[IntakeMessage], *, delay_seconds: float) -> None:
        """Hand lines out again after a delay, or stop over one that came too often."""
        due = asyncio.get_running_loop().time() + delay_seconds
        for message in messages:
            if message.deliveries >= DELIVERIES_MAX:
                self.stopped_by = "HOSTS_UNAVAILABLE"
            again = replace(message, deliveries=message.deliveries + 1)
            heapq.heappush(self._again, (due, again.sequence, again))
        self._changed.set()

    async def in_progress(self, messages: Sequence[IntakeMessage]) -> None:
        """Do nothing: a line is nobody else's."""

    async def settled_through(self) -> Mapping[str, int]:
        """Name no stream: a file's lines have no keys."""
        return {}

    async def stats(self) -> QueueStats:
        """Say how much is on its way."""
        return QueueStats(len(self._again), len(self._unsettled), 0, 0)

    async def trim(self, *, settled_before: datetime) -> int:  # noqa: ARG002  # the port's
        """Forget nothing: a file stays as it is."""
        return 0

    def _take(self, size: int) -> list[IntakeMessage]:
        if self.stopped_by is not None:
            return []
        found: list[IntakeMessage] = []
        now = asyncio.get_running_loop().time()
        while self._again and self._again[0][0] <= now and len(found) < size:
            found.append(heapq.heappop(self._again)[2])
        if found:
            return found
        found = list(self._read(size))
        self._unsettled.update(message.sequence for message in found)
        if found:
            self._marks.append(self._reader.place)
        return found

    def _read(self, size: int) -> Iterator[IntakeMessage]:
        for _ in range(0 if self._is_read else size):
            try:
                line = self._reader.next()
            except Invalid as error:
                self.stopped_by = error.reason
                self._changed.set()
                return
            if line is None:
                self._is_read = True
                self._changed.set()
                return
            fault = {} if line.fault is None else {FAULT: line.fault}
            yield IntakeMessage(
                subject=self._subject,
                headers={LINE_ID: line.line_id, **fault},
                data=line.data,
                sequence=line.number,
                deliveries=1,
                received_at=datetime.now(UTC),
                token=str(line.number),
            )


@dataclass(slots=True)
class LineFaults:
    """Lines that cannot be used, in place of dead letters."""

    named: list[tuple[int, str]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)

    def up_to(self, number: int) -> LineFaults:
        """Give the faults of the lines up to one."""
        later = Counter(reason for line, reason in self.named if line > number)
        named = [(line, reason) for line, reason in self.named if line <= number]
        return LineFaults(named, self.counted - later)

    async def put(self, message: RejectedMessage) -> None:
        """Note a line and why; of one of whose items several are bad, once for each reason."""
        number = int(message.origin.partition("-")[0])
        if (number, message.reason) in self.named[-1:]:
            return
        self.counted[message.reason] += 1
        if len(self.named) < FAULTS_NAMED_MAX:
            self.named.append((number, message.reason))

    async def list(
        self,
        *,
        after_sequence: int = 0,  # noqa: ARG002  # the port's
        limit: int = 100,  # noqa: ARG002
        reason: str | None = None,  # noqa: ARG002
    ) -> list[DeadLetter]:
        """Give nothing: the lines stand in their file."""
        return []

    async def get(self, sequence: int) -> DeadLetter | None:  # noqa: ARG002  # the port's
        """Give nothing, as `list`."""
        return None
