"""Servers with TLS as a user runs them."""

import json
import os
import signal
import ssl
import urllib.error
import urllib.request

import pytest

pytest.importorskip("cryptography", reason="the extra 'attest' is not installed")

from support.certificates import Authority
from support.penstock_process import process

SERVE = ("serve", "fleet.yaml", "--port", "0", "--set", "replicas=[{count: 1, engine: emulated}]")


@pytest.fixture
def authority(folder):
    return Authority(folder)


def trusting(authority, *files):
    context = ssl.create_default_context(cafile=authority.file)
    if files:
        context.load_cert_chain(*files)
    return context


def ask(url, context, **body):
    request = urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60, context=context) as response:
        return json.load(response)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_gateway_serves_https_to_clients_of_its_ca_alone(repository, folder, authority) -> None:
    authority.issue("server")
    known = trusting(authority, *authority.issue("client"))
    with process(repository, folder, *SERVE, "--tls-cert", "server.pem", "--tls-key",
                 "server-key.pem", "--tls-client-ca", "ca.pem") as front:
        word, url = front.stdout.readline().split()
        assert word == "gateway"
        assert url.startswith("https://127.0.0.1:")
        answer = ask(url, known, prompt="hello", max_tokens=5, ignore_eos=True)
        assert answer["usage"]["completion_tokens"] == 5
        with pytest.raises((OSError, urllib.error.URLError)):
            ask(url, trusting(authority), prompt="sk-secret", max_tokens=5)
        with pytest.raises((OSError, urllib.error.URLError)):
            ask(url.replace("https", "http"), None, prompt="sk-secret", max_tokens=5)
        front.send_signal(signal.SIGTERM)
        out, err = front.communicate(timeout=60)
    assert (front.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("command", [
    SERVE, ("lab", "plan-server", "--port", "0"), ("deployments", "serve", "--port", "0"),
    ("attest", "serve", "--nvidia")], ids=["serve", "plan-server", "deployments", "attest"])
@pytest.mark.parametrize(("options", "said"), [
    (("--tls-cert", "server.pem"), "--tls-cert: expected --tls-cert and --tls-key together"),
    (("--tls-key", "server-key.pem"), "--tls-key: expected --tls-cert and --tls-key together"),
    (("--tls-client-ca", "ca.pem"), "--tls-client-ca: expected --tls-cert and --tls-key together"),
    (("--tls-cert", "nowhere.pem", "--tls-key", "server-key.pem"),
     "nowhere.pem: cannot be read (No such file or directory)"),
    (("--tls-cert", "server.pem", "--tls-key", "fleet.yaml"),
     "fleet.yaml: found no PEM text of a private key"),
])
def test_files_that_do_not_work_are_told_of_at_once(penstock, authority, command, options,
                                                    said) -> None:
    authority.issue("server")
    found = penstock(*command, *options)
    assert (found.status, found.out) == (2, "")
    assert found.err.splitlines()[-1].endswith(said)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_commands_show_a_certificate_to_a_server_that_wants_one(repository, folder, authority,
                                                                penstock) -> None:
    assert penstock("deployments", "init", "unsized.yaml").status == 0
    authority.issue("server")
    authority.issue("client")

    def listed(**environment):
        with process(repository, folder, "deployments", "list", "--json", environment={
                "SSL_CERT_FILE": str(authority.file), **environment}) as listing:
            return *listing.communicate(timeout=60), listing.returncode

    with process(repository, folder, "deployments", "serve", "--port", "0", "--tls-cert",
                 "server.pem", "--tls-key", "server-key.pem", "--tls-client-ca",
                 "ca.pem") as server:
        word, url = server.stdout.readline().split()
        assert (word, url[:8]) == ("deployments", "https://")
        out, err, status = listed(PENSTOCK_TLS_CERT="client.pem",
                                  PENSTOCK_TLS_KEY="client-key.pem")
        assert (err, status) == ("", 0)
        assert json.loads(out) == {"deployments": []}
        out, err, status = listed()
        assert (out, status) == ("", 2)
        assert len(err.splitlines()) == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.parametrize(("environment", "said"), [
    ({"PENSTOCK_TLS_CERT": "nowhere.pem"}, "nowhere.pem: cannot be read"),
    ({"PENSTOCK_TLS_KEY": "client-key.pem"}, "PENSTOCK_TLS_KEY: expected PENSTOCK_TLS_CERT, too"),
    ({"PENSTOCK_TLS_CERT": "client.pem", "PENSTOCK_TLS_KEY": "fleet.yaml"},
     "fleet.yaml: found no PEM text of a private key")])
def test_a_commands_certificate_that_does_not_work_is_told_of(penstock, authority, monkeypatch,
                                                              environment, said) -> None:
    authority.issue("client")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = penstock("bench", "https://127.0.0.1:1", "--requests", "1", "--rate", "1")
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert "Traceback" not in found.err
