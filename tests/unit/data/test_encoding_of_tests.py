"""Tests of what the tests themselves encode."""

import os

from odd_media import Sound, Video, write


def test_no_encoder_leaves_a_thread_that_starves_the_machine():
    write(Video(codec="libsvtav1", options={"preset": "12"}), Sound())
    threads = [int(one) for one in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(one) for one in threads} == {os.SCHED_OTHER}
