"""Tests of reading in another process, as far as they need none."""

from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.rows import unreadable
from mke_ray.schema import Status


class AnsweringProcess:
    """Answers at once, and counts how often it is looked at."""

    def __init__(self):
        self.answers, self.num_looks = [], 0

    def send(self, rows):
        row = unreadable(Status.BAD, "gone", "gone", {})
        self.answers = [(number, row) for number in range(len(rows))]

    def receive(self, wait_s):
        return self.answers.pop()

    def failure(self, limits):
        self.num_looks += 1

    def end(self):
        raise AssertionError("it answered everything")


def test_a_process_that_answers_is_not_looked_at_for_every_sample():
    process = AnsweringProcess()
    decoder = IsolatedDecoder({}, {}, 1, SampleLimits(), process)
    assert len(decoder.read([None] * 500)) == 500
    assert process.num_looks < 5
