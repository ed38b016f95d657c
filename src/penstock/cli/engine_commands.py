"""``penstock commands``: the command lines that start the engines of a fleet's replicas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import overrides_of, read_fleet
from penstock.cli.options import AsJson, DataDir, KubeNamespace, ScheduledBy, Settings
from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.catalog.catalog import Catalog
    from penstock.engines.launch.statements import Statements
    from penstock.fleet.values import Fleet

_FORMATS = ("shell", "compose", "kubernetes", "disaggregated-set")

Source = Annotated[Path, typer.Argument(
    metavar="FILE", show_default=False,
    help="A fleet file with replicas, or a plan: its folder or its plan.json.")]
Form = Annotated[str, typer.Option(
    "--format", metavar="FORM",
    help="shell: commands with the reason of each argument; compose: services of Docker Compose; "
         "kubernetes: Deployments and LeaderWorkerSets; disaggregated-set: the same, and a "
         "DisaggregatedSet of the replicas with roles.")]

app = App()


@app.command(epilog="Example: penstock commands plans/first\n\n"
                    "Example: penstock commands fleet.yaml --engine sglang:0.5.23 --format compose",
             words={"--engine": "Another engine than the fleet's, with its version: vllm, sglang "
                                "or tensorrt-llm.",
                    "--namespace": "Namespace of the Kubernetes objects; default: default."})
def commands(file: Source, engine: ScheduledBy = None, form: Form = "shell",
             settings: Settings = None, data: DataDir = None, namespace: KubeNamespace = None,
             as_json: AsJson = False) -> int:
    """Print the command line that starts each replica's engine.

    An argument is stated where the fleet file states its value, a plan decided it, or the engine's
    own default differs; the reason is beside it. Kubernetes objects state all that the fleet counts
    on. Exit status 2 where an engine's version does not know what a replica needs.
    """
    if form not in _FORMATS:
        raise InputError(f"--format: found {form[:60]!r}{nearest(form[:60], _FORMATS)}")
    fleet, said, path = _fleet(file, settings, data)
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import note, print_json, print_line

    catalog = load_catalog(fleet.catalog)
    fleet = _named(fleet, path) if engine is None else _on(fleet, engine, said)
    if fleet.multiplexing:
        note("models that share devices (multiplexing) are left out")
    if form in ("kubernetes", "disaggregated-set"):
        objects = _objects(fleet, catalog, said, namespace or "default",
                           with_sets=form == "disaggregated-set")
        if as_json:
            print_json({"apiVersion": "v1", "kind": "List", "items": objects})
        else:
            _print_documents(objects)
        return OK
    from penstock.engines.launch.documents import compose_document, json_document
    from penstock.engines.launch.shell import shell_text
    from penstock.engines.launch.starts import notes, starts

    found = starts(fleet, catalog, said, path, everywhere=form == "compose")
    left_out = notes(fleet, catalog, said, path)
    if form == "compose":
        services = compose_document(found)
        for text in left_out:
            note(text)
        if as_json:
            print_json(services)
        else:
            _print_documents([services])
    elif as_json:
        print_json(json_document(found, left_out))
    else:
        print_line(shell_text(found, left_out).rstrip("\n"))
    return OK


def _fleet(file: Path, settings: list[str] | None,
           data: Path | None) -> "tuple[Fleet, Statements, str]":
    """The fleet, who stated its values, and the absolute path of its file."""
    from penstock.engines.launch.statements import Statements
    from penstock.fleet.files import read_text
    from penstock.fleet.load import read_marked

    path, plan = _source(file)
    fleet = read_fleet(path, settings, data, to_plan=True)
    if not any(group.count for group in fleet.replicas):
        raise InputError(f"{path}: states no replicas; expected a plan's folder, which `penstock "
                         "plan FLEET --out DIR` writes, or a fleet file with replicas")
    marked = read_marked(read_text(path), str(path), overrides_of(settings))
    return fleet, Statements(marked, None if plan is None else str(plan)), str(path.resolve())


def _source(file: Path) -> tuple[Path, Path | None]:
    """The fleet file, and the plan that wrote it, if any. Raises InputError for a folder without a
    plan."""
    from penstock.report.run_files import FLEET, PLAN

    folder = file if file.is_dir() else file.parent
    plan, fleet = folder / PLAN, folder / FLEET
    if file.is_dir() or file.name == PLAN:
        for needed in (plan, fleet):
            if not needed.is_file():
                raise InputError(f"{needed}: no such file; expected a fleet file, or a folder that "
                                 "`penstock plan FLEET --out DIR` wrote")
        return fleet, plan
    return file, plan if file.name == FLEET and plan.is_file() else None


def _named(fleet: "Fleet", path: str) -> "Fleet":
    """The fleet. Raises InputError for a group without an engine's name."""
    for number, group in enumerate(fleet.replicas):
        if group.engine == "auto" and fleet.engine_of(group).name is None:
            raise InputError(f"{path}: replicas[{number}] has an ideal engine; expected --engine "
                             "vllm, sglang or tensorrt-llm")
    return fleet


def _on(fleet: "Fleet", engine: str, said: "Statements") -> "Fleet":
    from penstock.engines.launch.group import on_engine
    from penstock.engines.launch.kinds import check_engine

    name, _, version = engine.partition(":")
    return on_engine(fleet, check_engine(name, "--engine"), version or None, said)


def _objects(fleet: "Fleet", catalog: "Catalog", said: "Statements", namespace: str, *,
             with_sets: bool) -> list[dict[str, Any]]:
    from penstock.serving.kubernetes.applied import applied_workloads

    return applied_workloads(fleet, catalog, said, namespace, with_sets=with_sets)


def _print_documents(documents: "Sequence[dict[str, Any]]") -> None:
    from penstock.cli.console import print_line
    from penstock.fleet.write import yaml_text

    print_line("---\n".join(map(yaml_text, documents)).rstrip("\n"))
