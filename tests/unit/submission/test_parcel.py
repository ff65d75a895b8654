"""What travels with a submitted job, and what is refused before anything does."""

import os
import subprocess
import zipfile

import pytest
from composed import REPOSITORY

from mke_ray.errors import ConfigError
from mke_ray.submission.parcel import check_size, files_to_take, pack, read_rules, variables

RULES = read_rules(str(REPOSITORY / "cluster" / "runtime_env.yaml"))


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, check=True)
    return listed.stdout.decode().splitlines()


def names(folder) -> list[str]:
    return [one.name for one in files_to_take(str(folder), RULES.excludes)]


def put(folder, name: str, size: int = 1) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_code_travels_and_data_results_environments_and_secrets_stay(tmp_path) -> None:
    code = ["conf/source/x.yaml", "jobs/expand.py", "mke_ray/data/videos.py", "mke_ray/docs/x.py"]
    stay = [".git/config", ".venv/bin/python", "outputs/demo/a", "data/1.bin", "a/run.db", "v.mp4"]
    stay += [
        ".env",
        "cluster/mlflow/.env",
        "my.env",
        "a/key.pem",
        "id_rsa",
        "mke_ray/__pycache__/x",
    ]
    stay += ["tests/test_x.py", ".ruff_cache/x", "docs/images/x.png"]
    for name in [*code, *stay]:
        put(tmp_path, name)
    assert names(tmp_path) == code


def test_the_code_of_this_project_is_small_and_whole() -> None:
    taken = {one.name: one.size for one in files_to_take(str(REPOSITORY), RULES.excludes)}
    wanted = [one for one in tracked_files() if one.startswith(("mke_ray/", "jobs/", "conf/"))]
    assert wanted and set(wanted) <= set(taken)
    assert sum(taken.values()) < 5_000_000


def test_too_much_is_refused_with_the_biggest_files_by_name(tmp_path) -> None:
    put(tmp_path, "weights/huge.bin", 2_000_000)
    put(tmp_path, "weights/large.bin", 1_000_000)
    for number in range(9):
        put(tmp_path, f"code/{number}.py")
    parcels = {str(tmp_path): files_to_take(str(tmp_path), RULES.excludes)}
    with pytest.raises(ConfigError, match=r"3\.0 MB would travel, 2 MB at most") as refused:
        check_size(parcels, max_mb=2)
    said = str(refused.value)
    huge, large = f"{tmp_path}/weights/huge.bin (2.0 MB)", f"{tmp_path}/weights/large.bin (1.0 MB)"
    assert said.index(huge) < said.index(large)
    assert "excludes" in said and "--max-mb" in said and "code/8.py" not in said
    check_size(parcels, max_mb=4)


def test_the_same_files_make_the_same_archive(tmp_path) -> None:
    put(tmp_path / "code", "jobs/x.py", 10)
    program = tmp_path / "code" / "run.sh"
    program.write_text("exit")
    program.chmod(0o755)
    archives = []
    for number in range(2):
        os.utime(program, (number, number))
        archive = tmp_path / f"{number}.zip"
        pack(str(tmp_path / "code"), files_to_take(str(tmp_path / "code"), ()), str(archive))
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["jobs/x.py", "run.sh"]
        assert archive.getinfo("run.sh").external_attr >> 16 == 0o755


def test_a_link_that_leads_out_or_to_a_folder_is_named(tmp_path) -> None:
    put(tmp_path, "outside/secret.txt")
    put(tmp_path, "code/a.py")
    os.symlink("a.py", tmp_path / "code" / "b.py")
    assert names(tmp_path / "code") == ["a.py", "b.py"]
    os.symlink(tmp_path / "outside", tmp_path / "code" / "outputs")  # kept back by its name
    assert names(tmp_path / "code") == ["a.py", "b.py"]
    for target in ("outside/secret.txt", "outside"):
        link = tmp_path / "code" / "link"
        os.symlink(tmp_path / target, link)
        with pytest.raises(ConfigError, match=r"code/link is a link to .*outside"):
            names(tmp_path / "code")
        link.unlink()
    with pytest.raises(ConfigError, match="is no folder"):
        names(tmp_path / "nowhere")


def test_only_variables_that_are_named_travel_and_no_secret_does() -> None:
    here = {
        "NCCL_DEBUG": "INFO",
        "HOME": "/root",
        "OMP_NUM_THREADS": "4",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "AWS_ACCESS_KEY_ID": "planted",
        "MLFLOW_TRACKING_PASSWORD": "planted",
        "RAY_AUTH_TOKEN": "planted",
        "HarmlessName": "AKIAPLANTEDPLANTED00",
        "MLFLOW_TRACKING_URI": "https://me:planted@mlflow.example.com",
        "OPENAI_KEY": "planted",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountName=me;AccountKey=planted==",
        "LINK": "https://host/x?X-Amz-Signature=planted",
    }
    assert variables(["NCCL_DEBUG"], here) == {"NCCL_DEBUG": "INFO"}
    for name in list(here)[3:]:
        with pytest.raises(ConfigError, match=rf"--env {name} is likely to be a secret") as refused:
            variables([name], here)
        assert "planted" not in str(refused.value).lower()
    with pytest.raises(ConfigError, match="export it first"):
        variables(["NOWHERE"], here)
    with pytest.raises(ConfigError, match=r"--env FOO=\.\.\.: give the name only, --env FOO;"):
        variables(["FOO=bar"], here)
    with pytest.raises(ConfigError, match=r"ray\.env_vars\.OMP_NUM_THREADS"):
        variables(["OMP_NUM_THREADS"], here)


def test_rules_that_are_none_are_named(tmp_path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("pip: [x]")
    with pytest.raises(ConfigError, match=r"rules\.yaml has \['pip'\]"):
        read_rules(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rules(str(tmp_path / "none.yaml"))
