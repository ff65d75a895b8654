"""The door to Hydra: real configurations compose, and bad ones are refused with their key."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from composed import composed
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mke_ray.config import build, check_targets, shown, to_yaml
from mke_ray.config_predict import ExportConfig, PredictConfig
from mke_ray.config_schema import JobConfig
from mke_ray.config_serve import ServeConfig
from mke_ray.config_upkeep import CollectConfig, ForgetConfig, ReportConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.submission.command import parser
from mke_ray.submission.line import job_line

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def run_expand(
    *arguments: str, folder: Path, job: str = "expand.py"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / job), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


OWN_KEYS = {
    "videos": ["source.root=s3://b", "source.classes=[a,b]"],
    "ravdess_features": ["source.root=s3://b"],
    "features": [
        "source.table=t.csv",
        "source.modalities={a: [x]}",
        "+student.encoders.a={type: features, num_inputs: 1}",
        "teacher.modality=a",
    ],
    "av_mnist": ["source.root=s3://b"],
    "av_mnist_arrays": ["source.root=s3://b"],
    "nyu_depth_v2_small": ["source.root=s3://b"],
    "av_mnist_features": ["source.root=s3://b"],
    "av_mnist_videos": ["source.root=s3://b"],
    "ravdess": ["source.root=s3://b"],
    "vggsound": ["source.root=s3://b"],
    "audioset": ["source.root=s3://b"],
    "nyu_depth_v2": ["source.root=s3://b"],
    "mm_imdb": ["source.root=s3://b"],
    "mm_imdb_tokens": ["source.root=s3://b"],
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_into_a_typed_job(experiment: str) -> None:
    own = OWN_KEYS.get(experiment, [])
    job, *draws = composed(f"experiment={experiment}", *own)
    assert job.name == experiment
    assert len(draws) == (4 if experiment == "mechanism" else 0)
    draw = f"{'data-' if draws else ''}seed-{job.data_seed}"
    assert job.root == os.path.abspath(f"outputs/{experiment}/{draw}")
    assert own or job.source["root"].startswith(job.root)


def test_the_running_mean_of_the_weights_reaches_the_fits_that_ask_for_it() -> None:
    (job,) = composed("fit.ema_decay=0.99", "teacher.fit.ema_decay=0.9")
    run = check_job(job)
    assert run.teacher_fit("s").ema_decay == 0.9
    template = run.arm_settings("s", "t", teacher=None, num_select=1).template
    assert template.ema_decay == 0.99
    (plain_job,) = composed()
    assert check_job(plain_job).teacher_fit("s").ema_decay is None


@pytest.mark.parametrize("key", ["fit.ema_decay", "teacher.fit.ema_decay"])
def test_a_decay_that_is_no_share_is_refused_with_its_key(key: str) -> None:
    (job,) = composed(f"{key}=1.0")
    with pytest.raises(ConfigError, match=rf"^{key}=1\.0"):
        check_job(job)


@pytest.mark.parametrize("fusion", ["concat", "gated", "attention", "film"])
def test_the_fusion_group_reaches_the_student(fusion: str) -> None:
    (job,) = composed(f"fusion={fusion}")
    assert job.student.fusion["type"] == fusion


def test_draws_of_the_data_have_their_own_seed_and_folder() -> None:
    first, second = composed("experiment=two_moon", "data_seeds=2")
    assert (first.data_seed, second.data_seed) == (0, 1)
    assert (first.source["data_seed"], second.source["data_seed"]) == (0, 1)
    assert first.root != second.root
    assert second.source["root"].startswith(second.root)


def test_folders_of_a_source_are_those_of_the_job_wherever_they_are_read() -> None:
    own = ["experiment=videos", "source.classes=[a,b]"]
    (job,) = composed(*own, "source.root=clips")
    assert job.source["root"] == os.path.abspath("clips")
    (job,) = composed(*own, "source.root=s3://bucket/clips", "source.table=t.csv")
    assert (job.source["root"], job.source["table"]) == ("s3://bucket/clips", "t.csv")
    (job,) = composed(*own, "source=manifest", "source.table='~/t.csv'")
    assert job.source["table"] == os.path.expanduser("~/t.csv")


def test_a_target_outside_the_trusted_packages_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"source\._target_=os\.system.*allow_targets=\[os\]"):
        composed("source._target_=os.system")


def test_a_prefix_is_not_mistaken_for_a_trusted_package() -> None:
    with pytest.raises(ConfigError, match="torch_evil"):
        check_targets({"a": [{"_target_": "torch_evil.nn.Linear"}]}, [])
    check_targets({"a": [{"_target_": "mine.Net"}]}, ["mine"])


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"mke_ray\.objectives\.Nothing"):
        build({"_target_": "mke_ray.objectives.Nothing"})


def test_an_argument_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="wrong_key"):
        build({"_target_": "mke_ray.schema.AudioSpec", "wrong_key": 3})


def test_extra_arguments_win_and_the_type_is_checked() -> None:
    spec = {"_target_": "mke_ray.schema.AudioSpec", "sample_rate_hz": 1, "seconds": 2.0}
    assert build(spec, sample_rate_hz=8000).num_samples == 16000
    with pytest.raises(ConfigError, match="is not a JobConfig"):
        build(spec, JobConfig)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("sede=3", "did you mean seed?"),
        ("seed=abc", "seed"),
        ("scaling.num_worker=3", "did you mean scaling.num_workers?"),
        ("search.num_trial=3", "did you mean search.num_trials?"),
        ("source.data_sed=3", "did you mean source.data_seed?"),
        ("source=nope", "source/nope"),
        ("smoke=ravdess", "this group is added with a plus: +smoke=ravdess (see"),
        ("source.files.a=a/{key}.png", "source.files.a: mismatched input '{' expecting <EOF>;"),
        ("source.files.a=a/{key}.png", "is put in quotes: 'KEY=\"VALUE\"'"),
        ("source=videos", "source.root"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_the_key(
    argument: str, said: str, tmp_path: Path
) -> None:
    ended = run_expand(argument, folder=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_few_keys_names_them_where_none_is_near(tmp_path: Path) -> None:
    ended = run_expand("student.path=x", folder=tmp_path, job="serve.py")
    assert ended.returncode == 2 and "; its keys are folder, " in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("+expansion.roundz=1", r"expansion\.roundz: the section expansion .* expansion\.rounds\?"),
        ("+expansion.foo=1", r"the section expansion has no key .foo.; choose one of \['enabled'"),
        ("+teacher.fit.num_stesp=1", r"the section teacher\.fit .* mean teacher\.fit\.num_steps\?"),
        ("+labelling.teachers_pool.num_gpu=1", r"mean labelling\.teachers_pool\.num_gpus\?"),
        ("+search.final_seed=[1]", r"the section search .* mean search\.final_seeds\?"),
        ("+rounds=1", r"rounds: a job has no key 'rounds'; did you mean expansion\.rounds\?"),
    ],
)
def test_a_key_that_a_section_does_not_have_is_refused_even_if_it_is_added(
    added: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        composed(added)


def test_sections_without_a_schema_take_any_key() -> None:
    added = ["+source.anything=1", "+labels.weight.mine=1", "+storage.options.key=x"]
    (job,) = composed(*added, "+more_teachers.other={_target_: mke_ray.x}", "+ray.env_vars.A=b")
    assert (job.source["anything"], job.labels.weight["mine"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["root=x"], "student.path is missing; give student.path=..."),
        (["root=x", "student.path=y", "explaim=true"], "did you mean explain?"),
        (["root=x", "student=y"], "student is a section: give student.path=..."),
        (["root=x", "student.path=y", "source._target_=os.system"], "add allow_targets=[os]"),
    ],
)
def test_predictions_are_told_what_they_lack(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "predict.py"), "source.root=b", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ended.returncode == 2
    assert said in ended.stderr and len(ended.stderr.strip().splitlines()) == 1


def test_keys_of_other_jobs_are_checked_too(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "forget.py"), "root=x", "+storage.single_drive=true"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ended.returncode == 2
    assert "did you mean storage.single_driver?" in ended.stderr


def test_a_misspelt_key_in_a_file_is_named_with_the_key_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nexpansion:\n  roundz: 1\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    ended = run_expand(f"--config-dir={tmp_path}", "experiment=mine", folder=tmp_path)
    assert ended.returncode == 2
    assert "experiment/mine" in ended.stderr
    assert "did you mean expansion.rounds?" in ended.stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["experiment=ravdess_features", "teacher.modality=radr"],
            r"^teacher\.modality=radr: teacher\.network needs student\.encoders\.radr, but "
            r"student\.encoders has \['face', 'voice'\]; choose one",
        ),
        (
            ["experiment=ravdess_features", "teacher.modality=faces", "data_seeds=2"],
            r"did you mean teacher\.modality=face\?",
        ),
        (["experiment=features", "teacher.modality=a"], r"has \[\]; add student\.encoders\.a$"),
        (
            ["~decode.audio"],
            r"^student\.encoders\.audio\.sample_rate_hz=\$\{decode\.audio\.sample_rate_hz\}: there "
            r"is no decode\.audio\.sample_rate_hz, decode has \['video'\]; add it, or give",
        ),
        (["name=${nope}"], r"^name=\$\{nope\}: there is no nope; add it, or give name a value"),
        (["model_seeds=[${a.b}]"], r"^model_seeds\[0\]=\$\{a\.b\}: there is no a\.b; add it"),
    ],
)
def test_a_reference_to_nothing_says_which_key_it_is_and_what_there_is(
    overrides: list[str], said: str
) -> None:
    own = ["source.root=x"] if "ravdess" in overrides[0] else []
    table = ["source.table=t.csv", "source.modalities={a: [x]}"]
    own = table if overrides[0] == "experiment=features" else own
    with pytest.raises(ConfigError, match=said):
        composed(*overrides, *own)


def test_help_shows_groups_keys_and_examples(tmp_path: Path) -> None:
    ended = run_expand("--help", folder=tmp_path)
    assert ended.returncode == 0
    for word in (
        "experiment: audioset, av_mnist",
        "num_workers: 2",
        "dry_run: false",
        "experiment=videos",
        "scaling.num_workers: W",
    ):
        assert word in ended.stdout


def test_help_of_asking_begins_with_its_own_keys(tmp_path: Path) -> None:
    ended = run_expand("--help", folder=tmp_path, job="ask.py")
    first = ended.stdout.split("Groups (choose")[0]
    assert first.startswith("mke_ray: which unlabeled samples people should label")
    for word in ("python jobs/ask.py ask.num=80", "ask.purpose: settle draws", "ask.max_per_group"):
        assert word in first
    assert "root:" not in first and "seed: 0" in ended.stdout
    assert "jobs/expand.py dry_run=true" not in ended.stdout


def test_help_of_predicting_lists_the_groups_that_it_can_use(tmp_path: Path) -> None:
    ended = run_expand("--help", folder=tmp_path, job="predict.py")
    groups = ended.stdout.split("Groups (choose")[1].split("Keys (change")[0]
    assert "labelling: gpus, local, split" in groups and "source: audioset, av_mnist" in groups
    assert not any(f"{name}:" in groups for name in ("engine", "objective", "search", "smoke"))


def test_secrets_are_hidden_wherever_a_configuration_is_shown() -> None:
    (job,) = composed(
        "+storage.options={key: AKIA, client_kwargs: {secret: hush}}",
        "+ray.env_vars.AWS_SECRET_ACCESS_KEY=hush",
        "tracking.uri=http://me:hush@server",
    )
    assert "hush" not in str(shown(job))
    assert "AKIA" not in to_yaml(job)
    assert "hush" not in to_yaml(job)
    assert shown(job)["seed"] == 0


def test_a_name_that_a_trusted_module_only_imported_is_refused() -> None:
    with pytest.raises(ConfigError, match="outside the trusted packages"):
        build({"_target_": "mke_ray.storage.os.getcwd"})


def test_such_a_name_is_refused_as_an_argument_too() -> None:
    with pytest.raises(ConfigError, match="outside the trusted packages"):
        build(
            {
                "_target_": "mke_ray.data.views.AudioView",
                "num_samples": {"_target_": "mke_ray.storage.os.getpid"},
            }
        )


def test_the_seed_reaches_the_students() -> None:
    (job,) = composed("seed=3")
    assert job.model_seeds == [3]
    assert job.data_seed == 3


def test_draws_of_a_source_without_a_seed_are_refused() -> None:
    with pytest.raises(ConfigError, match="model_seeds"):
        composed("experiment=videos", "source.root=s3://b", "source.classes=[a,b]", "data_seeds=2")
    own = OWN_KEYS["features"]
    with pytest.raises(ConfigError, match=r"source\.splits=null.*draw splits with source\.splits"):
        composed("experiment=features", *own, "data_seeds=2")
    drawn = composed("experiment=features", *own, "source.splits={test: 4}", "data_seeds=2")
    assert [one.source["data_seed"] for one in drawn] == [0, 1]


def test_the_error_for_a_data_set_that_is_not_there_says_what_it_is(tmp_path: Path) -> None:
    (job,) = composed("experiment=ravdess_features", f"source.root={tmp_path}")
    with pytest.raises(ConfigError) as caught:
        check_job(job).source.prepare()
    for said in ("source.root=DIR", "combined_summary.csv", "RAVDESS", "CC BY-NC-SA"):
        assert said in str(caught.value)


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_either_modality_teaches_the_experiment_on_ravdess(modality: str) -> None:
    (job,) = composed("experiment=ravdess_features", f"teacher.modality={modality}")
    assert job.teacher.network == job.student.encoders[modality]
    check_job(job)


def submitted(arguments: list[str]) -> list[str]:
    """Return job and arguments of a line that submits one."""
    job, *told = parser().parse_args(arguments).job
    line = [job, *(one.replace("$PWD", "/tmp") for one in told)]
    assert job_line(line, {job}, str(ROOT))
    return [Path(job).stem, *told]


def documented_commands() -> list[list[str]]:
    """Return job and arguments of every `python jobs/...` command of the README and docs."""
    texts = [path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    commands = []
    for block in re.findall(r"```bash\n(.*?)```", "\n".join(texts), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.search(r"python jobs/(\w+)\.py\s*(.*)", line):
                arguments = shlex.split(match[2].split(";")[0], comments=True)
                is_submitted = match[1] == "submit"
                commands.append(submitted(arguments) if is_submitted else [match[1], *arguments])
    return commands


OTHER_SCHEMAS = {
    "forget": ForgetConfig,
    "collect": CollectConfig,
    "report": ReportConfig,
    "serve": ServeConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
}


@pytest.mark.parametrize(
    "command", [*documented_commands(), ["collect", "root=x", "ttl_days=7"]], ids=" ".join
)
def test_every_documented_command_composes(command: list[str]) -> None:
    job, *arguments = command
    known = [one.replace("$s", "1").replace("$PWD", "/tmp") for one in arguments]
    overrides = [one for one in known if not one.startswith("--")]
    if job in OTHER_SCHEMAS:
        ConfigStore.instance().store(name=f"{job}_schema", node=OTHER_SCHEMAS[job])
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            assert compose(job, overrides=overrides)
    else:
        assert composed(*overrides)


def test_a_specification_without_a_class_is_shown_without_its_secrets() -> None:
    with pytest.raises(ConfigError, match="_target_ is missing") as refused:
        build({"root": "s3://bucket", "storage_options": {"secret": "hush"}})
    assert "hush" not in str(refused.value)


def test_a_source_is_shown_with_its_endpoint_and_without_its_secrets() -> None:
    (job,) = composed(
        "source=videos",
        "source.root=s3://bucket/x",
        "source.classes=[a,b]",
        "source.endpoint_url=http://minio:9000",
        "source.region=eu-west-3",
        "+source.storage_options={key: AKIA, secret: hush}",
    )
    assert "hush" not in to_yaml(job) and "AKIA" not in to_yaml(job)
    assert "http://minio:9000" in to_yaml(job) and "eu-west-3" in to_yaml(job)
    assert "hush" not in repr(build(job.source))


@pytest.mark.parametrize(("word", "kept"), [("on", True), ("off", False), ("false", False)])
def test_samples_are_on_or_off_on_the_command_line_and_in_yaml(word: str, kept: bool) -> None:
    (job,) = composed(f"samples={word}")
    assert job.samples is kept
    written = OmegaConf.create(f"samples: {word}")
    assert OmegaConf.merge(OmegaConf.structured(JobConfig), written).samples is kept
