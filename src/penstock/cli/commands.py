"""The one table of commands: their groups, modules and old spellings.

``penstock --help`` is made of this table alone, so the page imports no command.
"""

from collections.abc import Sequence
from typing import NamedTuple

PLAN, SIMULATE, SERVE, MEASURE, LAB = "Plan", "Simulate", "Serve", "Measure", "Lab"


class Entry(NamedTuple):
    """A command: ``name`` below ``penstock``, or below ``penstock lab`` in that group.

    ``module`` has its Typer application; ``old`` are spellings of earlier releases.
    """

    name: str
    group: str
    module: str
    summary: str
    old: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """The words after ``penstock``."""
        return f"lab {self.name}" if self.name in IN_LAB else self.name


def _lab(name: str, summary: str) -> Entry:
    """A command that stood in the first page before."""
    return Entry(name, LAB, f"penstock.cli.{name.replace('-', '_')}", summary, (name,))


_FIRST = (
    Entry("init", PLAN, "penstock.cli.init", "Write a fleet file from options or a dialogue."),
    Entry("check", PLAN, "penstock.cli.check", "Print every problem of a fleet file, with fixes."),
    Entry("plan", PLAN, "penstock.cli.plan", "Find the cheapest fleet, with or without a file."),
    Entry("commands", PLAN, "penstock.cli.engine_commands",
          "Print the engines' command lines of a plan or a fleet file."),
    Entry("run", PLAN, "penstock.cli.run", "Plan if the file has no replicas, then simulate."),
    Entry("simulate", SIMULATE, "penstock.cli.simulate", "Simulate the replicas of a fleet file."),
    Entry("compare", SIMULATE, "penstock.cli.compare",
          "Compare policies, settings or finished runs.", ("sweep",)),
    Entry("runs", SIMULATE, "penstock.cli.runs", "List, show, compare and prune kept runs."),
    Entry("capacity", SIMULATE, "penstock.cli.capacity",
          "Find the highest rate: by simulation, bound or queue.", ("bound",)),
    Entry("serve", SERVE, "penstock.cli.serve", "Serve OpenAI's API in front of a fleet's "
                                                "engines."),
    Entry("controller", SERVE, "penstock.cli.controller",
          "Run fleets on a Kubernetes cluster."),
    Entry("endpoint-picker", SERVE, "penstock.cli.endpoint_picker",
          "Choose replicas for Envoy and other gateways."),
    Entry("bench", SERVE, "penstock.cli.bench", "Load a live endpoint and check its objectives."),
    Entry("emulate", SERVE, "penstock.cli.emulate", "Serve a fleet's engines without a GPU."),
    Entry("keys", SERVE, "penstock.cli.keys", "Make, list and revoke API keys."),
    Entry("ledger", SERVE, "penstock.cli.ledger", "Check the ledger of charges."),
    Entry("deployments", SERVE, "penstock.cli.deployments", "Deploy models by intent."),
    Entry("attest", SERVE, "penstock.cli.attest", "Make, collect and verify evidence of "
                                                  "confidential mode."),
    Entry("profile", MEASURE, "penstock.cli.profile",
          "Measure engines, fit models, estimate configurations.", ("fit", "estimate")),
    Entry("catalog", MEASURE, "penstock.cli.catalog", "Show known accelerators and models."),
    Entry("trace", MEASURE, "penstock.cli.trace", "Describe, convert and generate traces."),
    Entry("lab", LAB, "penstock.cli.lab", "Reproduce, experiment, collect, train, replay, report."),
)
_IN_LAB = (
    _lab("reproduce", "Recompute a published system's figures."),
    Entry("inferno", LAB, "penstock.cli.inferno",
          "Run Inferno's control loop on a Kubernetes cluster."),
    _lab("experiment", "Measure variation between replicas; simulate SINCERE's grid."),
    _lab("place", "Place several models on one node."),
    _lab("queue", "Analyse one replica as a queue."),
    Entry("speculate", LAB, "penstock.cli.speculate",
          "Show the gain of speculative decoding by batch."),
    _lab("collect", "Collect rows to train predictors on."),
    _lab("train", "Train predictors from collected rows."),
    _lab("replay", "Check that the scheduler still makes a journal's plans."),
    _lab("report", "Print an earlier run's tables, or write its page."),
    _lab("engine", "Serve a GGUF model on llama.cpp."),
    _lab("plan-server", "Serve the planning API over HTTP."),
    _lab("schema", "Print the fleet file's JSON Schema."),
)

FIRST_PAGE = {entry.name: entry for entry in _FIRST}
IN_LAB = {entry.name: entry for entry in _IN_LAB}
RENAMED = {old: entry for entry in (*_FIRST, *_IN_LAB) for old in entry.old}


def respelt(arguments: Sequence[str]) -> tuple[str, list[str]] | None:
    """Today's name of a command that is called by an old one, and its command line; None for a line
    that is spelt as today."""
    if not arguments or arguments[0] not in RENAMED:
        return None
    old, *rest = arguments
    if old == "sweep":
        return "compare --grid", ["compare", *_grid(rest)]
    if old == "bound":
        return "capacity --method bound", ["capacity", "--method", "bound", *rest]
    name = f"profile {old}" if old in ("fit", "estimate") else f"lab {old}"
    return name, [*name.split(), *rest]


def _grid(arguments: Sequence[str]) -> list[str]:
    """Options of the command ``sweep``, which had its axes in ``--set``."""
    found = ["--grid" + word.removeprefix("--set") if word.partition("=")[0] == "--set" else word
             for word in arguments]
    # Without any, the file was run as it stands.
    return found if any(word.startswith("--grid") for word in found) else [*found, "--grid", ""]
