"""``penstock attest``: evidence that accelerators run in confidential mode."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import MISSED, OK
from penstock.cli.fleets import read_fleet
from penstock.cli.options import AsJson, FleetFile, Host, NeededFile, Port
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

app = App()

_KEY = typer.Option(
    "--key", metavar="FILE", show_default=False,
    help="File of the private key (PEM) that signs test evidence.")
KeyFile = Annotated[Path, _KEY]
MaybeKeyFile = Annotated[Path | None, _KEY]
KeyName = Annotated[str, typer.Option(
    "--name", metavar="KID", show_default=False, help="Name of the key (kid).")]
_DEVICE = typer.Option(
    "--device", metavar="ID", show_default=False,
    help="Identity of an accelerator; repeatable.")
DeviceIds = Annotated[list[str], _DEVICE]
MaybeDeviceIds = Annotated[list[str] | None, _DEVICE]
ValidS = Annotated[float, typer.Option(
    "--valid-s", metavar="S", min=1, max=1e9, help="Validity of test evidence, seconds.")]
Nonce = Annotated[str, typer.Option(
    "--nonce", metavar="HEX", help="The challenge that the evidence answers.",
    show_default=False)]


@app.callback(epilog="Example: penstock attest check fleet.yaml")
def _attest() -> None:
    """Make test evidence of confidential mode, collect evidence, verify evidence.

    Evidence made by `sign` proves nothing about any hardware; it is for tests.
    """


@app.command(epilog="Example: penstock attest key test-1 --key signing.pem --public trusted.json")
def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key (kid).",
                                        show_default=False)],
    private: KeyFile,
    public: Annotated[Path, typer.Option(
        "--public", metavar="FILE", help="Output file for the key set with the public key.",
        show_default=False)],
) -> int:
    """Make a key that signs test evidence."""
    import json
    import os

    from penstock.attest.signed import new_key
    from penstock.cli.console import note

    if not name.strip():
        raise InputError("NAME: found an empty name; expected what the key is called")
    text, keys = new_key(name)
    for path in (private, public):
        if path.exists():
            raise InputError(f"{path}: is there already; keys are not written over")
        if not path.parent.is_dir():
            raise InputError(f"{path}: no such folder as {path.parent}")
    if private.resolve() == public.resolve():
        raise InputError(f"--public: expected another file than --key's {private}")
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    public.write_text(json.dumps(keys, indent=1) + "\n")
    note(f"{private} signs, {public} is for those who verify")
    return OK


@app.command(epilog="Example: penstock attest sign --key signing.pem --name test-1 --device GPU-1 "
                    "--nonce $(openssl rand -hex 32) --out evidence.json")
def sign(
    private: KeyFile,
    name: KeyName,
    device: DeviceIds,
    nonce: Nonce, out: NeededFile,
    valid_s: ValidS = 3600.0,
    mode: Annotated[str, typer.Option(
        "--mode", metavar="WORD", help="Mode stated in the evidence.")] = "confidential",
    debug: Annotated[str, typer.Option(
        "--debug", metavar="WORD",
        help="State of debug access stated in the evidence.")] = "disabled",
    measurement: Annotated[list[str] | None, typer.Option(
        "--measurement", metavar="NAME=VALUE", show_default=False,
        help="Measurement of every device; repeatable.")] = None,
) -> int:
    """Sign test evidence of some accelerators."""
    import time

    from penstock.attest import signed

    _check_nonce(nonce)
    _check_devices(device)
    measurements = dict(_pair(text) for text in measurement or ())
    devices = [signed.Device(one, mode, debug, measurements) for one in device]
    out.write_bytes(signed.sign(devices, nonce, time.time(), valid_s, _text(private), name))
    return OK


@app.command(epilog="Example: penstock attest verify evidence.json --keys trusted.json "
                    "--device GPU-1 --nonce $NONCE")
def verify(
    evidence: Annotated[Path, typer.Argument(
        metavar="FILE", help="The evidence.", show_default=False)],
    keys: Annotated[Path, typer.Option(
        "--keys", metavar="FILE", help="JSON Web Key Set of trusted signers.", show_default=False)],
    device: DeviceIds,
    nonce: Nonce,
    verifier: Annotated[str, typer.Option(
        "--verifier", metavar="NAME", help="test or nvidia.")] = "test",
    issuer: Annotated[str | None, typer.Option(
        "--issuer", metavar="TEXT", help="Required issuer.", show_default=False)] = None,
    max_age_s: Annotated[float, typer.Option(
        "--max-age-s", metavar="S", min=1, help="Maximum age, seconds.")] = 3600.0,
    as_json: AsJson = False,
) -> int:
    """Verify evidence as a gateway does. Exit status 1 if the evidence is not valid."""
    import time
    from dataclasses import asdict

    from penstock.attest.make import make_verifier
    from penstock.attest.values import Challenge, EvidenceError, Rules
    from penstock.cli.console import print_json, print_line

    if verifier not in ("test", "nvidia"):
        raise InputError(f"--verifier: expected test or nvidia, found {verifier[:60]!r}")
    _check_nonce(nonce)
    _check_devices(device)
    rules = Rules("nvidia" if verifier == "nvidia" else "test", str(keys), issuer, max_age_s)
    try:
        content = evidence.read_bytes()
    except OSError as error:
        raise InputError(f"{evidence}: cannot be read ({error.strerror or error})") from None
    try:
        found = make_verifier(rules).verify(content, Challenge(nonce, tuple(device)), time.time())
    except EvidenceError as error:
        if as_json:
            print_json({"accepted": False, "reason": f"the evidence {error}"})
        else:
            print_line(f"refused: the evidence {error}")
        return MISSED
    if as_json:
        print_json({"accepted": True, **asdict(found)})
    else:
        print_line(f"accepted: {', '.join(found.devices)} for "
                   f"{found.expires_at_s - time.time():.0f} s")
    return OK


@app.command(epilog="Example: penstock attest check fleet.yaml --json")
def check(fleet_file: FleetFile, as_json: AsJson = False) -> int:
    """Request evidence from the replicas of a fleet file, and verify it by the file's rules.

    Exit status 1 if a replica in confidential mode is not attested.
    """
    import asyncio

    from penstock.cli.console import print_json, print_line
    from penstock.serving.attest.evidence import attestation_status
    fleet = read_fleet(fleet_file)
    found = asyncio.run(attestation_status(fleet))
    if not found:
        raise InputError(f"{fleet_file}: no replica with an endpoint is in confidential mode")
    if as_json:
        print_json([{"url": url, "attested": reason is None, "reason": reason}
                    for url, reason in found])
    else:
        for url, reason in found:
            print_line(f"{url} {reason or 'is attested'}")
    return MISSED if any(reason for _, reason in found) else OK


@app.command(epilog="Example: penstock attest collect --nonce $NONCE --out evidence.json")
def collect(nonce: Nonce, out: NeededFile) -> int:
    """Collect evidence of this machine's NVIDIA GPUs from NVIDIA's attestation service.

    Needs GPUs in confidential mode, the network and the extra attest-nvidia.
    """
    from penstock.attest.nvidia import collect as collected

    _check_nonce(nonce)
    out.write_bytes(collected(nonce))
    return OK


@app.command(epilog="Example: penstock attest serve --nvidia --host 10.0.0.7 --port 8080")
def serve(
    nvidia: Annotated[bool, typer.Option(
        "--nvidia", help="Collect evidence of this machine's NVIDIA GPUs.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 0,
    private: MaybeKeyFile = None,
    device: MaybeDeviceIds = None,
    name: KeyName = "",
    valid_s: ValidS = 3600.0,
) -> int:
    """Answer challenges with evidence, beside an engine, until interrupted.

    Prints the URL for `attestation.evidence` of the replica in the fleet file.
    """
    import asyncio
    import time

    from penstock.attest import nvidia as of_nvidia
    from penstock.attest import signed

    if nvidia == (private is not None):
        raise InputError("--nvidia, --key: expected one of them")
    make = of_nvidia.collect
    if private is not None:
        if not name or not device:
            raise InputError("--key: stands alone; expected --name and --device beside it")
        _check_devices(device)
        key, devices = _text(private), [signed.Device(one) for one in device]

        def make(nonce: str) -> bytes:
            return signed.sign(devices, nonce, time.time(), valid_s, key, name)

        make("00" * 16)  # a key that cannot sign is told of now
    asyncio.run(_serve(make, host, port))
    return OK


async def _serve(make: "Callable[[str], bytes]", host: str, port: int) -> None:
    import sys

    from penstock.cli.console import note
    from penstock.engines.http import stop_signal
    from penstock.serving.attest.agent import agent

    stopped = stop_signal()
    async with agent(make, host, port, note) as url:
        sys.stdout.write(f"evidence {url}\n")
        sys.stdout.flush()
        await stopped.wait()


def _check_devices(devices: list[str]) -> None:
    for place, one in enumerate(devices):
        if not one.strip() or one in devices[:place]:
            raise InputError(f"--device: {one[:60]!r} appears twice" if one.strip() else
                             "--device: found an empty identity")


def _check_nonce(nonce: str) -> None:
    from penstock.attest.values import check_nonce_text

    try:
        check_nonce_text(nonce)
    except InputError as error:
        raise InputError(f"--nonce: {error}") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"--measurement: expected NAME=VALUE, found {text[:60]!r}")
    return name, value


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
