"""Threads of a transfer: the first failure stops all, and so does an interrupt at any moment."""

import threading
import time

import pytest

from registry_client.crew import Crew
from registry_client.errors import TransferStopped


def test_all_tasks_are_done() -> None:
    done: list[int] = []
    Crew(3).run([lambda n=n: done.append(n) for n in range(10)])  # type: ignore[misc]
    assert sorted(done) == list(range(10))


def test_the_first_failure_stops_the_others() -> None:
    crew = Crew(2)
    stopped = threading.Event()

    def wait() -> None:
        try:
            while True:
                crew.check()
                time.sleep(0.001)
        except TransferStopped:
            stopped.set()
            raise

    def fail() -> None:
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        crew.run([wait, fail])
    assert stopped.is_set()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupt_while_threads_are_started(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, begun = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) == number:
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    crew = Crew(3)

    def wait() -> None:
        while True:
            crew.check()
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        crew.run([wait] * 3)
    assert not any(thread.is_alive() for thread in begun)
