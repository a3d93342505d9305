"""Runs the machine in one thread. Any thread may submit texts, and the texts are continued together.

    submit ─► queue ─► Batch runs one round after another ─► Ticket.push ─► Update, to the request
    cancel ─► the engine's thread cancels the texts between two rounds

If a client disconnects, its texts run for at most one more round. If the machine fails, all running and waiting texts
end, and the next request uses the machine again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lutern.api.serving.errors import ApiError, broken, defect, full, stopping
from lutern.api.writing import Style
from lutern.firmware.batching import Batch
from lutern.firmware.conversations import Conversation, Piece
from lutern.firmware.session import Machine
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer

LOG = logging.getLogger("lutern.serving")


@dataclass(frozen=True)
class Update:
    """An update of a text.

    ``text``: new text that no later token can change. ``count``: number of tokens so far. ``cycles``: clock cycles of
    the pass. ``ended``: "stop" or "length" in the last update. ``error``: why the text was broken off.
    """

    which: int
    text: str = ""
    count: int = 0
    cycles: int = 0
    ended: str | None = None
    error: ApiError | None = None

    @property
    def is_last(self) -> bool:
        """Whether this update is the last of its text."""
        return self.ended is not None or self.error is not None


class Ticket:
    """One text in progress. ``publish`` is called in the engine's thread and must not wait."""

    def __init__(
        self, which: int, tokenizer: Tokenizer, prompt: list[int], style: Style, publish: Callable[[Update], None]
    ) -> None:
        self.which, self._publish = which, publish
        self.writing = style.write(tokenizer, prompt, hidden=True)
        self.conversation = Conversation(0, prompt, style.count, style.sampling)
        self.is_open = True

    def push(self, piece: Piece) -> None:
        """Add the tokens of a piece, and publish the new text that no later token can change."""
        writing, ended = self.writing, None
        text = writing.take()
        if not self.conversation.left:
            text += writing.finish()
            ended = "length" if writing.ended_by is None else "stop"
            self.is_open = False
        self._publish(Update(self.which, text, writing.count, piece.run.cycles, ended))

    def fail(self, error: ApiError) -> None:
        """Publish the error that broke off the text."""
        if self.is_open:
            self.is_open = False
            self._publish(Update(self.which, error=error))


class Engine:
    """A machine, the texts that it runs, and the texts that wait.

    Parameters
    ----------
    machine : Machine
        The machine that chooses the tokens. Only this engine's thread calls the machine.
    queue : int
        Number of texts that may wait in addition to the running texts.
    repairs : list of str
        A list to which the machine adds a sentence for each run that it repeats. Each sentence is logged.
    """

    def __init__(self, machine: Machine, queue: int, repairs: Sequence[str] = ()) -> None:
        self._batch = Batch(machine, self._finished)
        self._queue = queue
        self._repairs, self._repairs_said = repairs, 0
        self._news = threading.Condition()
        self._inbox: list[Ticket] = []
        self._cancelled: list[Ticket] = []
        self._tickets: dict[int, Ticket] = {}  # the keys are numbers of conversations
        self._number = 0
        self._open = 0
        self._stops = False
        self._thread: threading.Thread | None = None

    @property
    def capacity(self) -> int:
        """The largest number of texts that run together."""
        return self._batch.capacity

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="machine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present round, and end all texts."""
        with self._news:
            self._stops = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Accept all texts of a request. If the queue has too little room, or the server ends, raise ``ApiError`` and
        accept none of these texts."""
        with self._news:
            if self._stops:
                raise stopping()
            if self._open + len(tickets) > self.capacity + self._queue:
                raise full(max(0, self._open - self.capacity))
            self._open += len(tickets)
            self._inbox += tickets
            self._news.notify()

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Cancel texts whose client has disconnected. Finished texts stay unchanged."""
        with self._news:
            self._cancelled += tickets
            self._news.notify()

    def _finished(self, number: int, token: int) -> bool:
        return self._tickets[number].writing.push(token)

    def _run(self) -> None:
        while self._take_news():
            try:
                for piece in self._batch.round():
                    self._deliver(piece)
                for text in self._repairs[self._repairs_said :]:
                    LOG.warning("%s", text)
                self._repairs_said = len(self._repairs)
            except LuternError as error:
                LOG.warning("the machine failed: %s", error)
                self._fail_all(broken(str(error)))
            except Exception:
                LOG.exception("a defect ended the texts in flight")
                self._fail_all(defect())
        self._fail_all(stopping())

    def _take_news(self) -> bool:
        """Wait until there are texts to run or to cancel, or the thread must end. Add new texts, and remove cancelled
        texts. Return False if the thread must end."""
        with self._news:
            self._news.wait_for(lambda: self._stops or self._inbox or self._cancelled or len(self._batch))
            for ticket in self._inbox:
                self._number += 1
                ticket.conversation.which = self._number
                self._tickets[self._number] = ticket
                self._batch.add(ticket.conversation)
            for ticket in self._cancelled:
                if ticket.is_open:
                    ticket.is_open = False
                    self._batch.drop(ticket.conversation)
                    self._forget(ticket)
            self._inbox, self._cancelled = [], []
            return not self._stops

    def _deliver(self, piece: Piece) -> None:
        ticket = self._tickets[piece.which]
        ticket.push(piece)
        if not ticket.is_open:
            with self._news:
                self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket.conversation.which]
        self._open -= 1

    def _fail_all(self, error: ApiError) -> None:
        self._batch.clear()
        with self._news:
            for ticket in list(self._tickets.values()):
                ticket.fail(error)
                self._forget(ticket)


__all__ = ["Engine", "Ticket", "Update"]
