from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

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
            kind = tuple if row.field == "allowed_hosts" else hints[row.field]
            assert isinstance(getattr(settings, row.field), kind), row.field


def test_settings_survive_the_way_through_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_env({"UPRES_DATA_DIR": str(tmp_path), "PORT": "1", "UPRES_ALLOWED_HOSTS": "a, b"})
    assert settings.allowed_hosts == ("a", "b")
    assert Settings.from_env(settings.to_env()) == settings


@pytest.mark.parametrize(("name", "value"), [("PORT", "many"), ("GPU_IDLE_TIMEOUT", "-1"), ("MAX_UPLOAD_SIZE", "0")])
def test_a_bad_value_is_named_with_its_meaning(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name}='{value}'"):
        Settings.from_env({name: value})


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="UPRES_DATADIR"):
        Settings.from_env({"UPRES_DATADIR": "/x"})


def test_folders_follow_the_data_directory_unless_they_are_set(tmp_path: Path) -> None:
    settings = Settings.from_env({"UPRES_DATA_DIR": str(tmp_path), "OUTPUT_FOLDER": "/elsewhere"})
    assert settings.upload_dir == tmp_path / "uploads" and settings.output_dir == Path("/elsewhere")
