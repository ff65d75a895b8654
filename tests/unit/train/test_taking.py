"""Tests of taking items ahead from a generator that may never give one."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mke_ray.train.taking import TakenAhead


class Made:
    """Numbers, of which one waits until it is told to end."""

    def __init__(self, waits_at=None, fails_at=None):
        self.waits_at, self.fails_at = waits_at, fails_at
        self.told, self.closed = threading.Event(), threading.Event()

    def __iter__(self):
        try:
            for number in range(4):
                if number == self.waits_at:
                    self.told.wait(30)
                    return
                if number == self.fails_at:
                    raise ValueError(number)
                yield number
        finally:
            self.closed.set()

    def taken(self):
        return TakenAhead(iter(self), self.told.set)


def test_items_come_in_order_and_none_after_the_last():
    taken = Made().taken()
    assert [taken.next(10.0) for _ in range(6)] == [0, 1, 2, 3, None, None]
    taken.close()


def test_who_waits_for_an_item_that_does_not_come_is_told_in_time_and_nothing_is_left():
    made = Made(waits_at=1)
    taken = made.taken()
    assert taken.next(10.0) == 0
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        taken.next(0.2)
    taken.close()
    assert time.monotonic() - began < 5.0
    assert made.closed.wait(5.0)


def test_what_the_making_raises_is_raised_where_the_item_is_wanted():
    taken = Made(fails_at=1).taken()
    assert taken.next(10.0) == 0
    with pytest.raises(ValueError, match="1"):
        taken.next(10.0)
    taken.close()


def test_a_thread_that_cannot_be_ended_does_not_keep_the_process():
    program = """
        import threading
        from mke_ray.train import taking

        def made():
            threading.Event().wait()
            yield

        taking._CLOSING_S = 0.2
        taking.TakenAhead(made(), lambda: None).close()
        print("closed")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
