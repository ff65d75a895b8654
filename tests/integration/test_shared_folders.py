"""Whether nodes see the folders of a run, asked of real ones."""

import os

import pytest

from mke_ray.errors import ConfigError
from mke_ray.shared_folders import check_shared


def test_folders_that_all_nodes_see_are_left_as_they_were(ray_session, tmp_path):
    check_shared({"root": str(tmp_path / "new")}, {"source.root": str(tmp_path)})
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_only_this_process_sees_is_named_with_its_node(ray_session, tmp_path):
    own = os.open(tmp_path, os.O_RDONLY)
    folder = f"/proc/self/fd/{own}/."
    try:
        wanted = r"^root=/proc/self/fd/.* 1 of 1 nodes do not see, for example .*s3://"
        with pytest.raises(ConfigError, match=wanted):
            check_shared({"root": folder}, {})
        with pytest.raises(ConfigError, match=r"^source\.root=/proc/self/fd/"):
            check_shared({}, {"source.root": folder})
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(own)
