"""Servers and clients with TLS: who is let in, bad files, and files that change under load."""

import asyncio
import logging
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest

pytest.importorskip("cryptography", reason="the extra 'attest' is not installed")

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.core.errors import InputError
from penstock.engines import door, tls
from penstock.engines.http import listening
from penstock.engines.tls import ServerTls, engine_context, server_context, watch
from penstock.fleet.values_gateway import EngineTls
from support.certificates import DAY, NOW, Authority, key_pem

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def run(work, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop").run(asyncio.wait_for(work, 60))
    else:
        asyncio.run(asyncio.wait_for(work, 60))


def application():
    async def hello(_):
        return web.Response(text="hello")

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(20):
            await response.write(b"%d," % number)
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/stream", stream)
    return app


@asynccontextmanager
async def server(files, client_ca=None, notes=None):
    note = (lambda _: None) if notes is None else notes.append
    async with listening(application(), "127.0.0.1", 0, 5.0,
                         tls=ServerTls(*files, client_ca, note)) as url:
        yield url


def trusting(authority, files=None):
    context = ssl.create_default_context(cafile=authority.file)
    if files is not None:
        context.load_cert_chain(*files)
    return context


async def got(url, context):
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return await answer.text()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_speaks_tls_1_2_and_1_3_and_no_plain_http(authority, caplog, loop, version):
    async def work():
        async with server(authority.issue("server")) as url:
            assert url.startswith("https://127.0.0.1:")
            context = trusting(authority)
            context.minimum_version = context.maximum_version = version
            assert await got(url, context) == "hello"
            with pytest.raises(aiohttp.ClientError):
                await got(url.replace("https", "http"), None)
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.write(b"GET /sk-secret HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"hello" not in await reader.read()
            writer.close()

    with caplog.at_level(logging.DEBUG, "penstock.http"):
        run(work(), loop)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    assert "sk-secret" not in caplog.text


def port_of(url):
    return int(url.rpartition(":")[2])


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_refused(authority):
    async def work():
        async with server(authority.issue("server")) as url:
            context = trusting(authority)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(aiohttp.ClientError):
                await got(url, context)

    run(work(), "asyncio")


@pytest.mark.parametrize("loop", LOOPS)
def test_only_clients_of_the_ca_come_in(authority, tmp_path, caplog, loop):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other")
    clients = {"none": None, "stranger": stranger.issue("client"),
               "expired": authority.issue("expired", until=NOW - DAY)}

    async def work():
        async with server(authority.issue("server"), authority.file) as url:
            for name, files in clients.items():
                with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                    pytest.fail(f"{name}: {await got(url, trusting(authority, files))}")
            assert await got(url, trusting(authority, authority.issue("client"))) == "hello"

    run(work(), loop)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_handshake_is_cut_off(authority, monkeypatch, loop):
    monkeypatch.setattr(door, "HANDSHAKE_S", 0.2)

    async def work():
        async with server(authority.issue("server")) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.write(b"\x16\x03\x01")
            assert await reader.read() == b""
            writer.close()

    run(work(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_changed_files_serve_new_handshakes_while_50_streams_go_on(authority, monkeypatch, loop):
    monkeypatch.setattr(watch, "__defaults__", (0.05,))
    notes = []

    async def work():
        files = authority.issue("server")
        async with server(files, notes=notes) as url, aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=trusting(authority))) as session:
            async def streamed():
                async with session.get(f"{url}/stream") as answer:
                    return await answer.text()

            streams = [asyncio.create_task(streamed()) for _ in range(50)]
            first = await serial_of(url, authority)
            files[1].write_text("no key")
            while not notes:
                await asyncio.sleep(0.01)
            assert await serial_of(url, authority) == first
            authority.issue("server")
            answers = []
            while len(notes) < 2:
                answers.append(await got(url, trusting(authority)))
            assert set(answers) == {"hello"}
            assert await serial_of(url, authority) != first
            assert set(await asyncio.gather(*streams)) == {"".join(f"{n}," for n in range(20))}
            await asyncio.sleep(0.3)

    run(work(), loop)
    assert len(notes) == 2
    assert "found no PEM text of a private key; the TLS files read before stay in use" in notes[0]
    assert notes[1].endswith("were read again")


@pytest.mark.parametrize("loop", LOOPS)
def test_every_handshake_ends_while_contexts_are_replaced(authority, loop):
    async def work():
        tls_files = ServerTls(*authority.issue("server"), None, lambda _: None)
        runner = web.AppRunner(web.Application())
        await runner.setup()
        async with door.open_door(runner, "127.0.0.1", 0, tls_files) as opened:
            url = f"https://127.0.0.1:{opened.address[1]}"
            replaced = False

            async def connect_on():
                while not replaced:
                    await serial_of(url, authority)

            clients = [asyncio.create_task(connect_on()) for _ in range(10)]
            for _ in range(30):
                await opened.replace(server_context(tls_files))
                await asyncio.sleep(0.005)
            replaced = True
            await asyncio.gather(*clients)
        await runner.cleanup()

    run(work(), loop)


async def serial_of(url, authority):
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(url), ssl=trusting(authority))
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return found


def test_a_client_ca_that_is_taken_away_ends_resumption(authority, tmp_path, monkeypatch):
    """A session from before the change does not get in without a certificate of the new CA."""
    monkeypatch.setattr(watch, "__defaults__", (0.05,))
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(authority.file.read_bytes())
    notes = []

    async def work():
        async with server(authority.issue("server"), client_ca, notes) as url:
            context = trusting(authority, authority.issue("client"))
            assert await got(url, context) == "hello"
            client_ca.write_bytes(other.file.read_bytes())
            while not notes:
                await asyncio.sleep(0.01)
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await got(url, context)
            assert await got(url, trusting(authority, other.issue("client"))) == "hello"

    run(work(), "asyncio")


def broken(authority, kind):
    cert, key = authority.issue("server")
    if kind == "absent":
        cert.unlink()
    elif kind == "not PEM":
        cert.write_bytes(b"\x30\x82\x01\x01")
    elif kind == "half PEM":
        cert.write_text("-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n")
    elif kind == "another key":
        key.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    elif kind == "encrypted key":
        key.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    return cert, key


@pytest.mark.parametrize(("kind", "said"), [
    ("absent", "server.pem: cannot be read (No such file or directory)"),
    ("not PEM", "server.pem: found no PEM text of a certificate"),
    ("half PEM", "server-key.pem: cannot be used ("),
    ("another key", "server-key.pem: is not the key of the certificate in "),
    ("encrypted key", "server-key.pem: the key is encrypted; expected a key without a passphrase"),
])
def test_bad_files_are_told_of_in_one_line(authority, kind, said):
    with pytest.raises(InputError) as error:
        server_context(ServerTls(*broken(authority, kind), None, lambda _: None))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_client_ca_that_is_none_is_told_of(authority, tmp_path):
    files = authority.issue("server")
    with pytest.raises(InputError, match=r"nowhere\.pem: cannot be read"):
        server_context(ServerTls(*files, tmp_path / "nowhere.pem", lambda _: None))
    with pytest.raises(InputError, match="found no PEM text of a certificate"):
        server_context(ServerTls(*files, files[1], lambda _: None))


def test_an_expired_certificate_and_an_open_key_are_noted(authority):
    notes = []
    cert, key = authority.issue("server", until=NOW - DAY)
    key.chmod(0o644)
    server_context(ServerTls(cert, key, None, notes.append))
    assert notes == [f"{cert}: the certificate expired on {NOW - DAY:%Y-%m-%d}",
                     f"{key}: everybody on this machine can read the key; expected mode 0600"]


def test_engines_are_verified_unless_said_otherwise(authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other")
    cert, key = map(str, authority.issue("gateway"))
    notes = []

    async def work():
        async with server(authority.issue("engine"), authority.file) as url:
            right = EngineTls(str(authority.file), cert, key)
            assert await got(url, engine_context(right, notes.append)) == "hello"
            assert notes == []
            for wrong in (EngineTls(str(stranger.file), cert, key), EngineTls(None, cert, key)):
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await got(url, engine_context(wrong, notes.append))
            blind = EngineTls(None, cert, key, verify=False)
            assert await got(url, engine_context(blind, notes.append)) == "hello"
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await got(url, engine_context(EngineTls(str(authority.file)), notes.append))

    run(work(), "asyncio")
    assert notes == ["gateway.engine_tls.verify is false: certificates of engines are not checked, "
                     "so anybody on the network can pose as an engine"]


def test_a_client_takes_a_new_certificate_of_its_own(authority, monkeypatch):
    monkeypatch.setattr(watch, "__defaults__", (0.05,))
    files = authority.issue("gateway", until=NOW - DAY)
    section = EngineTls(str(authority.file), *map(str, files))
    notes = []

    async def work():
        async with server(authority.issue("engine"), authority.file) as url:
            context, follow = tls.watched_engine_context(section, notes.append)
            watching = asyncio.create_task(follow())
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await got(url, context)
            authority.issue("gateway")
            while not any("were read again" in note for note in notes):
                await asyncio.sleep(0.01)
            assert await got(url, context) == "hello"
            watching.cancel()

    run(work(), "asyncio")


def test_a_change_between_the_first_reading_and_the_first_look_is_seen(authority, monkeypatch):
    monkeypatch.setattr(watch, "__defaults__", (0.01,))
    notes = []
    _, follow = tls.watched_engine_context(EngineTls(str(authority.file)), notes.append)
    authority.file.write_bytes(authority.file.read_bytes() * 2)

    async def work():
        watching = asyncio.create_task(follow())
        while not notes:
            await asyncio.sleep(0.01)
        watching.cancel()

    run(work(), "asyncio")
    assert notes == [f"{authority.file}: the TLS files were read again"]
