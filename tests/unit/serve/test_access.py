"""Who may ask, by the headers of a request alone."""

import pytest

from mke_ray.serve.access import Access
from mke_ray.serve.problems import ProblemError


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "["},
        {"host": "127.0.0.1", "origin": "https://evil.example"},
        {"host": "127.0.0.1", "origin": "null"},
        {"host": "127.0.0.1", "origin": ""},
        {"host": "127.0.0.1", "origin": "http://["},
    ],
)
def test_without_a_token_whatever_is_not_of_this_machine_is_refused(headers):
    with pytest.raises(ProblemError, match="only programs of this machine") as refused:
        Access().check(headers)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8000"},
        {"host": "[::1]:8000"},
        {"host": "127.0.0.1", "origin": "http://localhost:3000"},
    ],
)
def test_without_a_token_programs_and_pages_of_this_machine_may_ask(headers):
    Access().check(headers)
