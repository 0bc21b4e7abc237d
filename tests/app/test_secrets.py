from __future__ import annotations

from pathlib import Path

from app.settings import Settings, ensure_pepper, ensure_workspace_key


def test_secrets_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    pepper = ensure_pepper(settings)
    ensure_workspace_key(settings)
    keys = settings.workspace_key_source()
    assert settings.workspace_key_file.stat().st_mode & 0o777 == 0o600
    assert settings.pepper_file.stat().st_mode & 0o777 == 0o600
    ensure_workspace_key(settings)
    assert settings.workspace_key_source() == keys
    assert ensure_pepper(settings) == pepper


def test_a_workspace_key_from_elsewhere_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    settings = Settings(data=tmp_path / "data", workspace_key=f"file:{file}")
    ensure_workspace_key(settings)
    assert not settings.workspace_key_file.exists()
    ensure_workspace_key(Settings(data=tmp_path / "other"))
    file.write_bytes(Settings(data=tmp_path / "other").workspace_key_file.read_bytes())
    assert settings.workspace_key_source().newest == 1
