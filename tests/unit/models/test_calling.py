"""A function of the user's as a teacher."""

import sys

import numpy as np
import pytest
from composed import composed

from mke_ray.config import build
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.models.calling import CallableTeacher
from mke_ray.models.teachers import Teacher

X = np.arange(6, dtype=np.float32).reshape(3, 2)
NEEDS = {"kind": "features", "num_features": 2}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A module of the user's."""
    file = tmp_path / "loudness_of_mine.py"
    file.write_text("def predict(arrays, gain=1.0):\n    return arrays * gain\n\nten = 10\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("loudness_of_mine", None)


def teacher_of(name="loudness_of_mine.predict", **more):
    return CallableTeacher(name, modality="x", needs=NEEDS, **more)


@pytest.mark.usefixtures("package")
def test_a_function_answers():
    teacher = teacher_of(settings={"gain": 3.0}, classes=["a", "b"])
    assert isinstance(teacher, Teacher) and teacher.label_space.classes == ("a", "b")
    np.testing.assert_array_equal(teacher.predict(X), 3 * X)
    assert not hasattr(teacher_of(), "label_space")


def test_its_fingerprint_is_of_its_file_its_settings_and_what_it_reads(package, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("1")
    several = [
        teacher_of().fingerprint(),
        teacher_of(settings={"gain": 2.0}).fingerprint(),
        teacher_of(version="2").fingerprint(),
        teacher_of(files=[str(weights)]).fingerprint(),
    ]
    assert several[0] == teacher_of().fingerprint()
    weights.write_text("2")
    several.append(teacher_of(files=[str(weights)]).fingerprint())
    package.write_text(package.read_text() + "\n# changed\n")
    several.append(teacher_of().fingerprint())
    assert len(set(several)) == 6
    with pytest.raises(ConfigError, match="files: /nowhere cannot be read"):
        teacher_of(files=["/nowhere"]).fingerprint()


@pytest.mark.usefixtures("package")
def test_files_in_its_settings_count_by_their_content_wherever_they_lie(tmp_path):
    def of(folder, content):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "weights").write_text(content)
        paths = {"path": str(tmp_path / folder), "more": [str(tmp_path / folder / "deep/weights")]}
        return teacher_of(settings=paths).fingerprint()

    here = of("here", "1")
    assert here == of("there", "1") != of("elsewhere", "2")
    assert teacher_of(settings={"path": "/gone"}).fingerprint() != here


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("predict", "cannot be imported.*write package.module.function"),
        ("nowhere.predict", "cannot be imported"),
        ("loudness_of_mine.foresee", "cannot be imported"),
        ("loudness_of_mine.ten", "is no function but int"),
    ],
)
def test_a_function_that_is_none_is_named(name, said):
    with pytest.raises(ConfigError, match=said):
        teacher_of(name)


def test_a_function_without_a_source_file_needs_a_version():
    with pytest.raises(ConfigError, match="has no source file; set version"):
        teacher_of("math.sqrt").fingerprint()
    assert teacher_of("math.sqrt", version="1").fingerprint()


def job_with(tmp_path, *allowed):
    (job,) = composed(
        "teacher=function",
        "teacher.modality=audio",
        "teacher.network.function=loudness_of_mine.predict",
        "+teacher.network.needs={kind: audio}",
        f"allow_targets=[{','.join(allowed)}]",
        f"root={tmp_path / 'run'}",
    )
    return job


@pytest.mark.usefixtures("package")
def test_a_function_has_to_be_in_a_package_that_is_allowed(tmp_path):
    with pytest.raises(ConfigError, match=r"teacher\.network\.function=loudness_of_mine.*allow_t"):
        job_with(tmp_path)
    job = job_with(tmp_path, "loudness_of_mine")
    check_job(job)
    assert build(job.teacher.network).needs == {"kind": "audio"}


def test_a_function_that_a_trusted_package_merely_imported_is_refused():
    spec = {"_target_": "mke_ray.models.calling.CallableTeacher", "modality": "x", "needs": NEEDS}
    with pytest.raises(ConfigError, match="outside the trusted packages"):
        build({**spec, "function": "mke_ray.models.calling.importlib.import_module"})


@pytest.mark.parametrize("needs", [None, {"sample_rate_hz": 16000}])
def test_a_function_without_needs_is_refused_by_the_key(needs):
    with pytest.raises(ConfigError, match=r"needs=.*give needs\.kind.*needs=\{kind: audio"):
        CallableTeacher(f"{__name__}.same", modality="x", needs=needs)
