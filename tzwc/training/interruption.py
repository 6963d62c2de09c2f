"""Stop between two steps when asked to by Ctrl-C or by the system, so that nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tzwc.errors import TzwcError

__all__ = ["Interrupted", "Request", "listening"]


class Interrupted(TzwcError):
    """Training was asked to stop and did, behind a whole step.

    Attributes:
        number: of the signal; a shell reports a process that it ended as ``128 + number``.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Request:
    """Whether to stop.

    Attributes:
        number: of the signal that asked for it; 0 for none.
    """

    number: int = 0


@contextmanager
def listening(say: Callable[[str], None]) -> Iterator[Request]:
    """Collect SIGINT and SIGTERM inside the block; a second SIGINT raises ``KeyboardInterrupt`` at once.

    Outside of the main thread, where Python delivers no signals, nothing is collected.

    Args:
        say: told what is going to happen, since a step may take long: the first ones are compiled.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if request.number == signal.SIGINT == number:
            raise KeyboardInterrupt
        if not request.number:
            say("stopping behind this step" + ("; Ctrl-C again stops at once" if number == signal.SIGINT else ""))
        request.number = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
