import pytest

from mke_ray.retries import retried


def test_an_error_that_passes_is_tried_again_and_others_are_not():
    errors = [ConnectionResetError("gone"), TimeoutError("slow")]
    calls = []

    def action():
        calls.append(1)
        if errors:
            raise errors.pop()
        return "done"

    assert retried(action, "reading") == "done" and len(calls) == 3

    def forbidden():
        calls.append(1)
        raise PermissionError("no")

    calls.clear()
    with pytest.raises(PermissionError):
        retried(forbidden, "reading")
    assert len(calls) == 1


def test_a_store_that_never_answers_ends_as_an_os_error():
    from botocore.exceptions import EndpointConnectionError

    def action():
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    with pytest.raises(OSError, match=r"listing.*nowhere"):
        retried(action, "listing", patience_s=0.1)
