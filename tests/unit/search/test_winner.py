"""A winner as YAML, and configurations composed with other values."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from composed import REPOSITORY
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from mke_ray.config import register_schema
from mke_ray.config_values import (
    recomposed,
    usual_values,
    winner_values,
    winner_words,
    winner_yaml,
    without_winner,
)
from mke_ray.errors import ConfigError
from mke_ray.search.whole import winner_command

VALUES = {
    "fusion": "gated",
    "expansion.alpha": 1.5,
    "+objective.loss": {"type": "generalized", "q": 0.4},
    "fit.optimizer.lr": 0.003,
}


@pytest.fixture(autouse=True)
def hydra_at_conf() -> Any:
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield


def test_a_winner_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(winner_yaml(VALUES, ["fusion"], "the best"))
    read = winner_values(str(path))
    assert {key.lstrip("+"): value for key, value in read.items()} == {
        key.lstrip("+"): value for key, value in VALUES.items()
    }
    assert path.read_text().startswith("# @package _global_\n# the best\n")


def test_the_command_of_a_winner_is_that_of_the_run_on_the_same_root() -> None:
    line = [
        "experiment=tiny",
        "root=a b",
        "search=noise",
        "search.num_trials=3",
        "+search.space={}",
        "storage.options.key=abc",
    ]
    assert winner_command(line, "a b/winner.yaml", []) == (
        "python jobs/expand.py experiment=tiny 'root=a b' 'storage.options.key=***' "
        "'+winner=a b/winner.yaml'"
    )


def test_the_command_of_a_winner_keeps_groups_and_what_is_below_one_and_tells_no_password() -> None:
    line = ["engine=torch", "fusion.num_heads=2", "+winner=old.yaml"]
    line += ["tracking.uri=postgresql://me:hunter2@host/db", "++storage.options.key=abc"]
    command = winner_command(line, "w.yaml", ["+engine.bf16", "fusion"])
    assert command == (
        "python jobs/expand.py engine=torch fusion.num_heads=2 "
        "'tracking.uri=postgresql://***@host/db' '++storage.options.key=***' +winner=w.yaml"
    )


def test_what_a_command_of_a_winner_says_leaves_the_winner_its_values(tmp_path: Path) -> None:
    path, values = tmp_path / "winner.yaml", {**VALUES, "+engine.bf16": True}
    path.write_text(winner_yaml(values, ["fusion"], "the best"))
    line = ["engine=torch", "objective=expansion", "student.dropout=0.1", "fusion=film"]
    command = winner_command(line, str(path), values)
    _, kept = without_winner(shlex.split(command)[2:])
    assert {key.lstrip("+") for key in kept} == {key.lstrip("+") for key in values}


def test_the_command_of_a_winner_does_not_overrule_it_and_finds_what_it_is_made_of() -> None:
    line = ["fusion=film", "student.dropout=0.1", "+objective.loss.type=generalized", "seed=3"]
    keys = ["fusion", "+objective.loss", "student.dropout"]
    assert winner_command(line, "w.yaml", keys, "my") == (
        "python jobs/expand.py --config-dir my seed=3 +winner=w.yaml"
    )


def test_what_a_winner_sets_is_said_as_on_a_command_line() -> None:
    assert winner_words({"fusion": "gated", "+objective.loss": None, "fit.optimizer.lr": 0.01}) == (
        'fusion="gated", objective.loss=null, fit.optimizer.lr=0.01'
    )


def test_a_configuration_is_composed_with_other_values() -> None:
    cfg = recomposed(["experiment=tiny", "fusion=concat"], VALUES)
    assert cfg.fusion.type == "gated" and cfg.expansion.alpha == 1.5
    assert OmegaConf.to_container(cfg.objective.loss) == {"type": "generalized", "q": 0.4}
    assert cfg.fit.optimizer.lr == 0.003 and cfg.fit.optimizer.type == "adamw"


def test_what_keys_are_is_told_of_groups_by_the_option() -> None:
    found = usual_values(["experiment=tiny", "fusion=film"], {}, [*VALUES, "nowhere"])
    assert found["fusion"] == "film" and found["+objective.loss"] is None
    assert "nowhere" not in found


def test_a_winner_gives_way_to_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(winner_yaml(VALUES, ["fusion"], "the best"))
    lines, values = without_winner(["fusion=film", f"+winner={path}", "expansion.alpha=0.5"])
    assert lines == ["fusion=film", "expansion.alpha=0.5"]
    assert set(values) == {"+objective.loss", "+fit.optimizer.lr"}


def test_a_part_of_what_the_winner_gives_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "winner.yaml"
    path.write_text(winner_yaml(VALUES, ["fusion"], "the best"))
    with pytest.raises(ConfigError, match=r"objective\.loss\.q is a part of objective\.loss"):
        without_winner([f"+winner={path}", "objective.loss.q=0.5"])
    _, values = without_winner([f"+winner={path}", "fit={num_steps: 3}"])
    assert "+fit.optimizer.lr" not in values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fit.optimiser.lr": 1}, r"did you mean fit\.optimizer\.lr"),
        ({"fit.global_batch": "many"}, r"fit\.global_batch='many'"),
        ({"fusion": "glue"}, "fusion=glue"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recomposed(["experiment=tiny"], values)


@pytest.mark.parametrize("content", ["- a", "defaults:\n- tiny\n", ": :"])
def test_a_file_that_is_no_winner_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="winner="):
        winner_values(str(path))


def test_what_was_composed_before_is_taken_and_left_as_it_was() -> None:
    known: dict[tuple[str, ...], Any] = {}
    lines = ["experiment=tiny"]
    first = recomposed(lines, {"fusion": "gated", "expansion.alpha": 0.25}, known)
    again = recomposed(lines, {"fusion": "gated", "expansion.alpha": 0.5}, known)
    assert (first.expansion.alpha, again.expansion.alpha) == (0.25, 0.5)
    assert again == recomposed(lines, {"fusion": "gated", "expansion.alpha": 0.5})
    assert len(known) == 1
    assert len([recomposed(lines, {"fusion": one}, known) for one in ("film", "gated")]) == 2
    assert len(known) == 2
