from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

from upres.errors import InvalidSetting
from upres.settings import SETTINGS, Settings


def test_documented_defaults_hold() -> None:
    settings = Settings.from_env({})
    assert (settings.port, settings.idle_timeout_s, settings.visible_devices, settings.host) == (
        8200, 600.0, "0", "127.0.0.1",
    )  # fmt: skip


def test_every_default_and_every_reader_gives_the_fields_type(tmp_path: Path) -> None:
    hints = get_type_hints(Settings)
    for settings in (Settings.from_env({}), Settings.from_env(Settings.from_env({}).to_env())):
        for row in SETTINGS:
            hint = hints[row.field]
            kind = tuple if get_origin(hint) is tuple else hint
            assert isinstance(getattr(settings, row.field), kind), row.field


def test_settings_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_env({"UPRES_DATA_DIR": str(tmp_path), "PORT": "1", "UPRES_ALLOWED_HOSTS": "a, b"})
    assert settings.allowed_hosts == ("a", "b")
    assert Settings.from_env(settings.to_env()) == settings


@pytest.mark.parametrize(("name", "value"), [("PORT", "many"), ("GPU_IDLE_TIMEOUT", "-1"), ("MAX_UPLOAD_SIZE", "0"),
                                             ("UPRES_KERNELS", "fast")])
def test_a_bad_value_is_named_with_its_meaning(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name}='{value}'"):
        Settings.from_env({name: value})


def test_roots_survive_the_way_too_and_the_token_does_not_go(tmp_path: Path) -> None:
    token = "s" * 32
    settings = Settings.from_env({"UPRES_ROOTS": os.pathsep.join(("/a,b", "/c")), "UPRES_TOKEN": token})
    assert settings.roots == (Path("/a,b"), Path("/c")) and settings.token == token
    assert Settings.from_env(settings.to_env()) == replace(settings, token="")
    assert token not in repr(settings) and token not in str(settings.to_env())


def test_a_bad_token_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="32 or more") as refused:
        Settings.from_env({"UPRES_TOKEN": "short-secret"})
    assert "short-secret" not in str(refused.value)


def test_not_a_number_is_no_number() -> None:
    with pytest.raises(InvalidSetting, match="UPRES_KEEP_GB"):
        Settings.from_env({"UPRES_KEEP_GB": "nan"})


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="UPRES_DATADIR"):
        Settings.from_env({"UPRES_DATADIR": "/x"})


def test_folders_follow_the_data_directory_unless_they_are_set(tmp_path: Path) -> None:
    settings = Settings.from_env({"UPRES_DATA_DIR": str(tmp_path), "OUTPUT_FOLDER": "/elsewhere"})
    assert settings.upload_dir == tmp_path / "uploads" and settings.output_dir == Path("/elsewhere")


def test_a_placeholder_that_a_client_did_not_fill_is_no_value() -> None:
    settings = Settings.from_env({"UPRES_TOKEN": "${user_config.token}", "OUTPUT_FOLDER": "${HOME}/Videos"})
    assert settings.token == ""
    assert settings.output_dir == Settings.from_env({}).output_dir
