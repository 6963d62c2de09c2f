"""Stop between two steps when asked to by Ctrl-C, by the system or by a closing terminal, so that nothing is lost."""

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
    """Collect SIGINT, SIGTERM and SIGHUP inside the block; a second SIGINT raises ``KeyboardInterrupt`` at once.

    Outside of the main thread, where Python delivers no signals, nothing is collected; nor is a SIGHUP that is ignored,
    as ``nohup`` has it.

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
        first, request.number = not request.number, number
        if first:
            say("stopping behind this step" + ("; Ctrl-C again stops at once" if number == signal.SIGINT else ""))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
