"""A command group that imports a command's module only when that command is called."""

from importlib import import_module
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from penstock.core.errors import InputError, nearest

# Command -> module with its Typer app, in the order of the help page.
COMMANDS = {
    "init": "penstock.cli.init",
    "check": "penstock.cli.check",
    "run": "penstock.cli.run",
    "plan": "penstock.cli.plan",
    "simulate": "penstock.cli.simulate",
    "capacity": "penstock.cli.capacity",
    "bound": "penstock.cli.bound",
    "bench": "penstock.cli.bench",
    "compare": "penstock.cli.compare",
    "sweep": "penstock.cli.sweep",
    "experiment": "penstock.cli.experiment",
    "report": "penstock.cli.report",
    "trace": "penstock.cli.trace",
    "catalog": "penstock.cli.catalog",
    "profile": "penstock.cli.profile",
    "fit": "penstock.cli.fit",
    "estimate": "penstock.cli.estimate",
    "place": "penstock.cli.place",
    "collect": "penstock.cli.collect",
    "train": "penstock.cli.train",
    "queue": "penstock.cli.queue",
    "serve": "penstock.cli.serve",
    "keys": "penstock.cli.keys",
    "attest": "penstock.cli.attest",
    "deployments": "penstock.cli.deployments",
    "plan-server": "penstock.cli.plan_server",
    "emulate": "penstock.cli.emulate",
    "engine": "penstock.cli.engine",
    "replay": "penstock.cli.replay",
    "reproduce": "penstock.cli.reproduce",
    "schema": "penstock.cli.schema",
}


class ReaderGoneError(Exception):
    """Error for a pipe whose reader has closed it."""


def plugged_in(name: str) -> Any:
    """The Typer app that a plug-in brings under this name; None where there is none."""
    from penstock.registry.commands import PLUGGED_IN  # only for a name that is not built in

    return PLUGGED_IN.load(name)() if PLUGGED_IN.knows(name) else None


class LazyGroup(TyperGroup):
    """Commands by the table above: start-up pays for the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = COMMANDS.get(cmd_name)
        app = import_module(module).app if module else plugged_in(cmd_name)
        if app is None:
            return None
        command = get_command(app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Typer would end with status 1, which means a missed target here.
            raise ReaderGoneError from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from penstock.registry.commands import PLUGGED_IN

            if not PLUGGED_IN.knows(args[0]):
                known = (*COMMANDS, *PLUGGED_IN.all_names())
                raise InputError(f"no command {args[0][:60]!r}{nearest(args[0][:60], known)}")
        return super().resolve_command(ctx, args)
