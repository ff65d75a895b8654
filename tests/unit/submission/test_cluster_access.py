"""A token that a cluster does not take is named by its variable and file, never by itself."""

import pytest

from mke_ray.errors import ConfigError
from mke_ray.submission.access import check_address, token_trouble


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://head.example/ray"])
def test_the_url_of_a_dashboard_is_one(address) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:8391", r"did you mean http://127\.0\.0\.1:8391\?"),
        ("ray://head:10001", r"did you mean http://head:10001\?"),
        ("http://", r"as in http://127\.0\.0\.1:8265"),
        ("", "as in http://"),
    ],
)
def test_what_is_no_url_is_refused_with_the_one_that_may_be_meant(address, said) -> None:
    with pytest.raises(ConfigError, match=said):
        check_address(address)


def test_a_token_that_is_not_taken_is_named_by_where_it_is_from(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.write_text("")
    full.write_text("hidden")
    mode = {"RAY_AUTH_MODE": "token"}

    def trouble(path) -> str:
        return token_trouble({**mode, "RAY_AUTH_TOKEN_PATH": str(path)})

    assert "RAY_AUTH_MODE is not set here; export RAY_AUTH_MODE=token" in token_trouble({})
    assert "RAY_AUTH_MODE=disabled here" in token_trouble({"RAY_AUTH_MODE": "disabled"})
    assert "neither RAY_AUTH_TOKEN_PATH nor RAY_AUTH_TOKEN is set" in token_trouble(mode)
    assert f"RAY_AUTH_TOKEN_PATH={tmp_path / 'no'}: there is no such file" in trouble(
        tmp_path / "no"
    )
    assert f"{empty}: the file is empty" in trouble(empty)
    assert f"{tmp_path}: that is no file" in trouble(tmp_path)
    assert f"{full}: the cluster does not take its token" in trouble(full)
    given = token_trouble({**mode, "RAY_AUTH_TOKEN": "hidden", "RAY_AUTH_TOKEN_PATH": str(full)})
    assert "the token in RAY_AUTH_TOKEN;" in given and "hidden" not in given + trouble(full)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("hidden")
    assert "~/.ray/auth_token" in token_trouble(mode)
