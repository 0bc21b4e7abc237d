"""The command line against servers that ask who one is: roles, and TLS with a CA of one's own."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from app.bootstrap import open_connection
from app.cli import cli
from app.nats_cluster import NatsCluster
from app.settings import Settings, ensure_workspace_key
from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.server import EmbeddedServer
from tests.cluster.shipped import WORKSPACE, shipped_servers
from tests.support.events import draft, new_id, new_record, store
from tests.support.waiting import until_async

EVENTS = 7
KEYS = 3
REPLICAS = 3


async def ran(*command: str) -> dict[str, object]:
    done = await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--json"])
    assert done.exit_code == 0, (command, done.output)
    # Only `main`, which is not called here, keeps log lines away.
    found: dict[str, object] = orjson.loads(done.stdout.splitlines()[-1])
    return found


async def is_made(log: JetStreamEventLog) -> bool:
    """Make a log, as soon as the servers are one cluster."""
    try:
        await log.ensure_stream(replicas=REPLICAS)
    except LogUnavailable:
        return False
    return True


async def test_log_and_keys_are_backed_up_by_a_reader_and_restored_by_an_operator(
    tmp_path: Path,
) -> None:
    settings = Settings(data=tmp_path / "data", workspace=WORKSPACE)
    ensure_workspace_key(settings)
    data = ("--data", str(settings.data))
    async with shipped_servers(tmp_path / "servers", servers=3) as roles:
        operator = await roles.connect("operator")
        log = JetStreamEventLog(operator, WORKSPACE)
        await until_async(lambda: is_made(log), timeout_seconds=30)
        keys = JetStreamKeyStore(operator, WORKSPACE, source=settings.workspace_key_source)
        await keys.open(replicas=REPLICAS)
        await keys.ensure([RecordId(new_id()) for _ in range(KEYS)])
        await store(log, *(draft(new_record()) for _ in range(EVENTS)))
        reader, all_roles = tmp_path / "reader.toml", tmp_path / "all.toml"
        roles.write_credentials(reader, but="operator")
        roles.write_credentials(all_roles)

        def there(file: Path) -> list[str]:
            return [*data, "--nats", ",".join(roles.urls), "--credentials", str(file)]

        as_reader = [*there(reader), "--workspace", WORKSPACE]
        backup = await ran("backup", str(tmp_path / "log"), *as_reader)
        assert backup["events_added"] == EVENTS
        saved = await ran("keys", "backup", str(tmp_path / "keys"), *as_reader)
        assert (await ran("keys", "status", *as_reader))["keys_by_version"] == {"1": KEYS}
        wanted = ["restore", str(tmp_path / "log"), *there(reader)]
        done = await asyncio.to_thread(CliRunner().invoke, cli, wanted)
        assert done.exit_code == 2
        assert "no table [operator]" in done.output

        for stream in ("log", "keys"):
            await JetStreamApi(operator).call(f"STREAM.DELETE.koseki-{WORKSPACE}-{stream}")
        restored = await ran("restore", str(tmp_path / "log"), *there(all_roles))
        assert restored["log_digest"] == backup["log_digest"]
        for stream in ("log", "keys"):
            info = await JetStreamApi(operator).call(f"STREAM.INFO.koseki-{WORKSPACE}-{stream}")
            assert info["config"]["num_replicas"] == REPLICAS, "koseki up would refuse it"
        as_operator = [*there(all_roles), "--workspace", WORKSPACE]
        done_keys = await ran("keys", "restore", str(saved["file"]), *as_operator)
        assert done_keys["restored"] == KEYS


def certify(folder: Path) -> Path:
    """Make a CA, and a certificate of it for 127.0.0.1; give the folder of their files."""
    now = datetime.now(UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def begun(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("a CA of ours"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    ca = begun("a CA of ours", ca_key).add_extension(is_ca, critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    server = begun("127.0.0.1", key).add_extension(names, critical=False)
    folder.mkdir()
    for file, certificate in (("ca", ca), ("server", server)):
        signed = certificate.sign(ca_key, hashes.SHA256())
        (folder / f"{file}.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server-key.pem").write_bytes(pem)
    return folder


async def test_servers_are_believed_by_the_ca_that_the_tls_table_names(tmp_path: Path) -> None:
    ours, other = certify(tmp_path / "ours"), certify(tmp_path / "other")
    files = f'cert_file: "{ours}/server.pem", key_file: "{ours}/server-key.pem"'
    extra = f"tls {{ {files} }}\nauthorization {{ user: op, password: secret }}"
    server = EmbeddedServer(tmp_path / "nats", extra_config=extra)
    await server.start()
    file = tmp_path / "credentials.toml"
    file.write_text('[operator]\nuser = "op"\npassword = "secret"\n[tls]\nca = "ca.pem"\n')
    cluster = NatsCluster(servers=(server.url.replace("nats:", "tls:"),), credentials=file)
    settings = Settings(data=tmp_path, nats_cluster=cluster)
    shutil.copy(ours / "ca.pem", tmp_path)
    connection = await open_connection(settings, "test", role="operator")
    await JetStreamEventLog(connection, "main").ensure_stream()
    await connection.close()
    shutil.copy(other / "ca.pem", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.bootstrap.CONNECT_SECONDS_MAX", 1.0)
        with pytest.raises(LogUnavailable):
            await open_connection(settings, "test", role="operator")
    await server.stop()
