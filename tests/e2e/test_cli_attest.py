"""``penstock attest`` as a user runs it: a key, evidence, a verdict, a fleet."""

import stat

import pytest

pytest.importorskip("jwt", reason="the extra 'attest' is not installed")
pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from support.penstock_process import process

NONCE = "5b" * 32
LIVE = """\
accelerators: [{name: h100-80gb, confidential: true}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, confidential: true}]
traffic: [{lengths: {prompt: {fixed: 10}, output: {fixed: 9}}, rate_per_s: 1}]
attestation: {verifier: test, keys: trusted.json}
replicas:
  - {endpoints: ["http://127.0.0.1:9"], attestation: {evidence: [evidence.json], nonce: NONCE,
     devices: [[DEVICE]]}}
"""


@pytest.fixture
def signed(folder, penstock):
    """A folder with a key and evidence of GPU-1."""
    made = penstock("attest", "key", "test-1", "--key", "signing.pem", "--public", "trusted.json")
    assert made.status == 0
    assert penstock("attest", "sign", "--key", "signing.pem", "--name", "test-1", "--device",
                    "GPU-1", "--nonce", NONCE, "--out", "evidence.json").status == 0
    return folder


def verify(penstock, *more, device="GPU-1", nonce=NONCE):
    return penstock("attest", "verify", "evidence.json", "--keys", "trusted.json", "--device",
                    device, "--nonce", nonce, *more)


def test_evidence_is_made_and_judged(signed, penstock) -> None:
    assert verify(penstock).out.startswith("accepted: GPU-1 for 3")
    found = verify(penstock, "--json").json
    assert (found["accepted"], found["verifier"], found["devices"]) == (True, "test", ["GPU-1"])
    refused = verify(penstock, device="GPU-2")
    assert (refused.status, refused.out) == (1, "refused: the evidence is of another device, "
                                                "'GPU-1'\n")
    assert verify(penstock, "--json", nonce="00" * 32).json["reason"].startswith(
        "the evidence answers another challenge")
    assert verify(penstock, "--verifier", "nvidia").status == 1


def test_a_private_key_is_for_its_owner_and_is_not_written_over(signed, penstock) -> None:
    assert stat.S_IMODE((signed / "signing.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in (signed / "trusted.json").read_text()
    before = (signed / "signing.pem").read_text()
    again = penstock("attest", "key", "test-1", "--key", "signing.pem", "--public", "other.json")
    assert again.status == 2
    assert "is there already" in again.err
    assert (signed / "signing.pem").read_text() == before


def test_the_replicas_of_a_fleet_are_checked(signed, penstock) -> None:
    fleet = signed / "live.yaml"
    fleet.write_text(LIVE.replace("NONCE", NONCE).replace("DEVICE", "GPU-1"))
    found = penstock("attest", "check", "live.yaml")
    assert (found.status, found.out) == (0, "http://127.0.0.1:9 is attested\n")
    fleet.write_text(LIVE.replace("NONCE", NONCE).replace("DEVICE", "GPU-2"))
    found = penstock("attest", "check", "live.yaml", "--json")
    assert found.status == 1
    assert found.json[0]["attested"] is False
    assert "another device, 'GPU-1'" in found.json[0]["reason"]


@pytest.mark.parametrize(("arguments", "said"), [
    (("verify", "gone.json", "--keys", "trusted.json", "--device", "a", "--nonce", NONCE),
     "gone.json: cannot be read"),
    (("verify", "evidence.json", "--keys", "gone.json", "--device", "a", "--nonce", NONCE),
     "gone.json: cannot be read"),
    (("verify", "evidence.json", "--keys", "trusted.json", "--device", "a", "--nonce", "xy"),
     "--nonce: expected 16 to 64 bytes"),
    (("verify", "evidence.json", "--keys", "trusted.json", "--device", "a", "--nonce", NONCE,
      "--verifier", "amd"), "--verifier: expected test or nvidia"),
    (("sign", "--key", "trusted.json", "--name", "a", "--device", "a", "--nonce", NONCE, "--out",
      "x.json"), "expected a private Ed25519 key"),
    (("sign", "--key", "signing.pem", "--name", "a", "--device", "a", "--nonce", NONCE, "--out",
      "x.json", "--measurement", "vbios"), "expected NAME=VALUE"),
    (("sign", "--key", "signing.pem", "--name", "a", "--device", "a", "--nonce", NONCE, "--out",
      "x.json", "--valid-s", "inf"), "--valid-s"),
    (("sign", "--key", "signing.pem", "--name", "a", "--device", "a", "--device", "a", "--nonce",
      NONCE, "--out", "x.json"), "--device: 'a' appears twice"),
    (("sign", "--key", "signing.pem", "--name", "a", "--device", "", "--nonce", NONCE, "--out",
      "x.json"), "--device: found an empty identity"),
    (("verify", "evidence.json", "--keys", "trusted.json", "--device", "GPU-1", "--device",
      "GPU-1", "--nonce", NONCE), "--device: 'GPU-1' appears twice"),
    (("verify", "evidence.json", "--keys", "deep.json", "--device", "a", "--nonce", NONCE),
     "deep.json: is not a JSON Web Key Set"),
    (("key", " ", "--key", "x.json", "--public", "y.json"), "NAME: found an empty name"),
    (("key", "a", "--key", "x.json", "--public", "x.json"), "--public: expected another file"),
    (("key", "a", "--key", "x.json", "--public", "gone/keys.json"), "gone/keys.json: no such fol"),
    (("collect", "--nonce", NONCE, "--out", "x.json"), "pip install '.[attest-nvidia]'"),
    (("serve",), "expected one of them"),
    (("serve", "--key", "signing.pem"), "expected --name and --device"),
    (("serve", "--key", "trusted.json", "--name", "a", "--device", "a"), "private Ed25519 key"),
    (("check", "fleet.yaml"), "no replica with an endpoint is in confidential mode")])
def test_what_cannot_be_is_said_in_a_line(signed, penstock, arguments, said) -> None:
    (signed / "deep.json").write_text("[" * 100_000)
    found = penstock("attest", *arguments)
    assert found.status == 2
    assert said in found.err
    assert not (signed / "x.json").exists()


def test_an_agent_answers_what_a_fleet_file_names(signed, penstock, repository) -> None:
    with process(repository, signed, "attest", "serve", "--key", "signing.pem", "--name", "test-1",
                 "--device", "GPU-1") as agent:
        word, url = agent.stdout.readline().split()
        assert word == "evidence"
        live = LIVE.replace("evidence.json", url).replace("nonce: NONCE,\n", "")
        (signed / "live.yaml").write_text(live.replace("DEVICE", "GPU-1"))
        found = penstock("attest", "check", "live.yaml")
        assert (found.status, found.out) == (0, "http://127.0.0.1:9 is attested\n")
        agent.terminate()
        assert agent.wait(30) == 0
    gone = penstock("attest", "check", "live.yaml")
    assert gone.status == 1
    assert "its evidence cannot be had" in gone.out
