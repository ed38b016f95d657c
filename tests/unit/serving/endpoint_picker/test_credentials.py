"""TLS of the gRPC server: who is let in, and certificates that are renewed."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")
pytest.importorskip("cryptography", reason="makes certificates")

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.engines.tls import ServerTls
from penstock.serving.endpoint_picker.credentials import file_credentials, self_signed_credentials
from penstock.serving.endpoint_picker.server import Health
from support.certificates import Authority

PATIENCE_S = 60.0


@asynccontextmanager
async def served(credentials):
    """The address of a server that tells its health."""
    health = Health()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    await health.begin()
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def is_alive(address, credentials) -> bool:
    options = (("grpc.ssl_target_name_override", "localhost"),
               ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        try:
            found = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="liveness"), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError:
            return False
    return found.status == health_pb2.HealthCheckResponse.SERVING


def test_a_client_needs_a_certificate_of_the_ca(tmp_path) -> None:
    async def run():
        ca, others = Authority(tmp_path), Authority(tmp_path, "others")
        cert, key = ca.issue("server")
        tls = ServerTls(cert, key, ca.file, lambda _: None)
        root = ca.file.read_bytes()
        async with served(file_credentials(tls)) as address:
            for authority, expected in ((ca, True), (others, False), (None, False)):
                own = (None, None) if authority is None else tuple(
                    file.read_bytes() for file in authority.issue("client"))
                credentials = grpc.ssl_channel_credentials(root, own[1], own[0])
                assert await is_alive(address, credentials) is expected

    asyncio.run(run())


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_told_of(tmp_path) -> None:
    async def run():
        old, new, said = Authority(tmp_path), Authority(tmp_path, "new"), []
        cert, key = old.issue("server")
        (tmp_path / "later").mkdir()
        new.folder = tmp_path / "later"
        later = [file.read_bytes() for file in new.issue("server")]
        roots = [grpc.ssl_channel_credentials(one.file.read_bytes()) for one in (old, new)]
        async with served(file_credentials(ServerTls(cert, key, None, said.append))) as address:
            assert await is_alive(address, roots[0])
            cert.write_bytes(b"no PEM")
            assert await is_alive(address, roots[0])
            assert said[0].endswith("the TLS files read before stay in use")
            cert.write_bytes(later[0])
            key.write_bytes(later[1])
            assert await is_alive(address, roots[1])
            assert said[-1].endswith("the TLS files were read again")
            assert not await is_alive(address, roots[0])

    asyncio.run(run())


def test_a_certificate_of_its_own_is_good_for_who_does_not_verify() -> None:
    async def run():
        async with served(self_signed_credentials()) as address:
            host, port = address.split(":")
            own = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
            assert await is_alive(address, grpc.ssl_channel_credentials(own.encode()))

    asyncio.run(run())
