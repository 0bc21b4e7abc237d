"""An outside cluster: what may be said of it, and the credentials of each role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli import cli
from app.nats_cluster import CredentialsFault, NatsCluster
from app.settings import Settings

SERVERS = ("nats://10.0.0.20:4222", "tls://10.0.0.21:4222")
SECRET = "not-to-be-seen"


def cluster(folder: Path, text: str) -> NatsCluster:
    file = folder / "credentials.toml"
    file.write_text(text)
    return NatsCluster(servers=SERVERS, credentials=file)


def test_each_role_gets_its_own_credentials_and_inbox(tmp_path: Path) -> None:
    known = cluster(
        tmp_path, f'[host]\nuser = "h"\npassword = "{SECRET}"\n[reader]\ncreds = "reader.creds"'
    )
    assert known.options("host") == {
        "user": "h",
        "password": SECRET,
        "inbox_prefix": "_INBOX_host",
    }
    assert known.options("reader") == {
        "user_credentials": str(tmp_path / "reader.creds"),
        "inbox_prefix": "_INBOX_reader",
    }
    assert known.has("host")
    assert not known.has("operator")


def test_a_cluster_that_asks_nobody_needs_no_credentials() -> None:
    known = NatsCluster(servers=SERVERS)
    assert known.options("host") == {}
    assert known.has("operator")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no table [host]"),
        ("[host", "cannot be read: TOMLDecodeError"),
        ('[host]\nuser = "h"', "host: Value error, give user and password, or creds"),
        ('[host]\nuser = "h"\npassword = "{}"\ncreds = "x"', "give user and password, or creds"),
        ('[host]\ncreds = "x"\nsecret = "{}"', "host.secret: Extra inputs are not permitted"),
        ('host = "{}"', "host: Input should be"),
        ('[host]\ncreds = "x"\n[tls]\nca = "nowhere"', "tls: No such file or directory"),
        ('[host]\ncreds = "x"\n[tls]\nca = "a"\nkey = "b"', "a certificate needs its key"),
    ],
)
def test_what_is_wrong_with_credentials_is_said_without_the_secret(
    tmp_path: Path, text: str, said: str
) -> None:
    known = cluster(tmp_path, text.replace("{}", SECRET))
    with pytest.raises(CredentialsFault) as caught:
        known.options("host")
    assert str(known.credentials) in str(caught.value)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": ()},
        {"servers": ("10.0.0.20",)},
        {"servers": ("nats://user:password@10.0.0.20",)},
        {"servers": SERVERS, "replicas": 1},
        {"servers": SERVERS, "replicas": 2},
    ],
    ids=str,
)
def test_a_cluster_that_could_lose_events_or_tell_a_password_is_refused(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        NatsCluster(**wrong)


def test_settings_say_where_nats_is_and_how_many_keep_a_stream(tmp_path: Path) -> None:
    alone = Settings(data=tmp_path, nats_url="nats://127.0.0.1:1")
    assert (alone.mode, alone.replicas, alone.nats_servers) == (
        "development",
        1,
        ("nats://127.0.0.1:1",),
    )
    many = Settings(data=tmp_path, nats_cluster=NatsCluster(servers=SERVERS))
    assert (many.mode, many.replicas, many.nats_servers) == ("cluster", 3, SERVERS)
    assert Settings.from_bytes(many.to_bytes()) == many


@pytest.mark.parametrize("options", [["--replicas", "1"], ["--nats", "10.0.0.20"]])
def test_the_command_line_refuses_in_one_line(tmp_path: Path, options: list[str]) -> None:
    wanted = ["up", "--data", str(tmp_path), "--nats", "nats://127.0.0.1:1", *options]
    done = CliRunner().invoke(cli, wanted)
    assert done.exit_code == 2
    assert "nats_cluster." in done.output
    assert done.output.count("\n") == 1
