"""A worker that is stuck is ended; one that gets on, waits or was frozen is not."""

import threading

from consumer.watchdog import Progress, Watchdog

WAIT_S = 20.0


def test_it_acts_once_when_it_is_not_fed() -> None:
    starved = threading.Semaphore(0)
    dog = Watchdog(starved.release, limit_s=0.003, tick_s=0.001)

    dog.start()

    assert starved.acquire(timeout=WAIT_S)
    assert not starved.acquire(timeout=0.05)


def test_it_does_nothing_while_it_is_fed() -> None:
    starved, ticks = threading.Event(), []
    enough = threading.Event()
    dog = Watchdog(starved.set, limit_s=0.002, tick_s=0.001)

    class Fed(threading.Event):
        """Feeds it at each tick."""

        def wait(self, timeout: float | None = None) -> bool:
            dog.feed()
            ticks.append(timeout)
            if len(ticks) > 50:
                enough.set()
            return super().wait(timeout)

    dog._is_over = Fed()
    dog.start()

    assert enough.wait(WAIT_S)
    dog.stop()
    assert not starved.is_set()


def test_progress_is_a_change() -> None:
    progress = Progress()

    assert [progress.is_made(done) for done in (1, 1, 2, 2, 1)] == [True, False, True, False, True]
