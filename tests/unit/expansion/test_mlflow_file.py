"""Folders of a run as MLflow takes them: on this machine, wherever the run lies."""

from pathlib import Path

from mke_ray.expansion.mlflow_file import folder_here
from mke_ray.storage import open_root


def test_a_folder_of_a_bucket_is_copied_for_a_moment_and_a_local_one_is_not() -> None:
    far = open_root("memory://here/report")
    far.write("index.html", b"page")
    far.write("figures/arms.png", b"picture")
    with folder_here(far) as folder:
        assert Path(folder, "index.html").read_bytes() == b"page"
        assert Path(folder, "figures", "arms.png").read_bytes() == b"picture"
    assert not Path(folder).exists()


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    near = open_root(str(tmp_path))
    near.write("index.html", b"page")
    with folder_here(near) as folder:
        assert Path(folder) == tmp_path
    assert (tmp_path / "index.html").exists()
