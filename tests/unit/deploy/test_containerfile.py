"""The image is built from what it needs, runs as nobody in particular, and holds no secrets."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from support.kustomization import pod_templates
from support.manifests import rendered

REPOSITORY = Path(__file__).parents[3]
FILE = REPOSITORY / "deploy" / "Containerfile"
SECRET = re.compile(r"(?i)(pass(word)?|secret|token|api_?key|credential)")


def instructions(text):
    """Instructions with their arguments, without comments, continued lines joined."""
    plain = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    return [tuple(line.split(maxsplit=1)) for line in
            re.sub(r"\\\n", " ", plain).splitlines() if line.strip()]


def stages_of(text):
    """Instructions before the first stage, then those of each stage."""
    stages = [[]]
    for word, rest in instructions(text):
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


FORBIDDEN = [
    ("ADD", "", "ADD: COPY is enough"),
    ("(ARG|ENV)", SECRET, "a secret would stay in the image"),
    ("(ENTRYPOINT|CMD)", r"^[^\[]", "it starts a shell"),
    ("RUN", "https?://", "RUN fetches a URL"),
    ("COPY", r"^\. ", "COPY of everything"),
    ("(?!(ARG|FROM|RUN|WORKDIR|COPY|ENV|USER|EXPOSE|ENTRYPOINT|CMD|ADD)$).*", "", "not expected"),
]
"""Instructions, what their arguments must not contain, and why."""


def problems(text):
    """Everything that our rules forbid."""
    first, *stages = stages_of(text)
    found = [f"{word} {rest}: {why}" for word, rest in instructions(text)
             for kind, pattern, why in FORBIDDEN
             if re.fullmatch(kind, word) and re.search(pattern, rest)]
    arguments = dict(rest.split("=", 1) for word, rest in first if word == "ARG")
    for stage in stages:
        image = re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], stage[0][1].split()[0])
        if image.rsplit("/", 1)[-1].partition(":")[2] in ("", "latest"):
            found.append(f"{image}: no version")
    last = [rest for word, rest in stages[-1] if word == "USER"]
    if not last or not re.fullmatch(r"[1-9]\d{4,}(:[1-9]\d{4,})?", last[-1]):
        found.append("the last stage needs a USER by number, 10000 or more")
    if len(stages) < 2 or any(word == "RUN" for word, _ in stages[-1]):
        found.append("the last stage only copies what an earlier one built")
    return found


def test_the_containerfile_keeps_the_rules():
    assert problems(FILE.read_text()) == []


@pytest.mark.parametrize(("old", "new", "problem"), [
    ("USER 10001:10001", "USER root", "USER by number"),
    ("USER 10001:10001\n", "", "USER by number"),
    ("USER 10001:10001", "USER 0", "USER by number"),
    ("python:3.12-slim\n\n", "python:latest\n\n", "no version"),
    ("python:3.12-slim\n\n", "python\n\n", "no version"),
    ("COPY src src", "ADD https://example.com/x.tar /", "ADD"),
    ("COPY src src", "COPY . .", "COPY of everything"),
    ("HOME=/tmp", "DB_PASSWORD=x", "a secret"),
    ("WORKDIR /source", "ARG API_TOKEN", "a secret"),
    ('ENTRYPOINT ["penstock"]', "ENTRYPOINT penstock", "starts a shell"),
    ("WORKDIR /tmp", "RUN pip install penstock", "only copies"),
    ("rm -rf /var/lib/apt/lists/*", "curl https://example.com", "fetches a URL"),
    ("EXPOSE 8000 8080", "HEALTHCHECK CMD true", "HEALTHCHECK CMD true: not expected")])
def test_a_broken_rule_is_noticed(old, new, problem):
    text = FILE.read_text()
    assert old in text
    assert any(problem in one for one in problems(text.replace(old, new)))


def test_the_build_gets_what_it_copies_and_what_the_wheel_needs():
    copied = {name for word, rest in instructions(FILE.read_text())
              if word == "COPY" and not rest.startswith("--from")
              for name in rest.split()[:-1]}
    allowed = {line[1:] for line in (REPOSITORY / ".containerignore").read_text().splitlines()
               if line.startswith("!")}
    assert copied == allowed
    assert all((REPOSITORY / name).exists() for name in copied)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {project["project"]["readme"], *wheel["force-include"], "pyproject.toml",
            "hatch_build.py", "src"} <= copied


def test_both_builders_leave_out_the_same():
    """Podman and Buildah read the one, Docker the other."""
    assert (REPOSITORY / ".containerignore").read_text() == (
        REPOSITORY / "deploy" / "Containerfile.dockerignore").read_text()


def test_the_extras_that_it_installs_exist():
    (extras,) = re.findall(r"\$\{wheel\}\[([\w,]+)\]", FILE.read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_pods_run_as_the_user_of_the_image():
    (user,) = [rest for word, rest in instructions(FILE.read_text()) if word == "USER"]
    for found in rendered().values():
        for _, template in pod_templates(found):
            context = template["spec"]["securityContext"]
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def builder():
    """A builder of images that answers, or None: Docker's client may lack its daemon."""
    for name in ("buildah", "podman", "docker"):
        if (program := shutil.which(name)) and subprocess.run(
                [program, "info"], capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.mark.long
def test_the_image_is_built_and_starts(tmp_path):
    program = builder()
    if program is None:
        pytest.skip("neither buildah nor podman nor a Docker daemon is here")
    identity = tmp_path / "image"
    subprocess.run([program, "build", "--iidfile", identity, "-f", FILE, REPOSITORY], check=True)
    if not program.endswith("buildah"):
        ended = subprocess.run([program, "run", "--rm", "--read-only", "--tmpfs", "/tmp",
                                identity.read_text(), "--version"], capture_output=True, text=True,
                               check=True)
        assert ended.stdout.startswith("penstock ")
