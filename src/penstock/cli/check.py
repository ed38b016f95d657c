"""``penstock check``: every problem of a fleet file at once."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import overrides_of
from penstock.cli.options import AsJson, DataDir, FleetFile, Settings
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.check import Finding

app = App()


@app.command(epilog="Example: penstock check examples/quickstart.yaml")
def check(fleet_file: FleetFile, settings: Settings = None, data: DataDir = None,
          as_json: AsJson = False) -> int:
    """Print every problem of a fleet file with its line, its field, the expected value and a fix.

    Generates the traffic once, so trace files are checked, too. Exit status 2 if there are
    problems.
    """
    from penstock.cli.console import print_json, print_line
    from penstock.fleet.check import Finding as Entry
    from penstock.fleet.check import find_problems
    from penstock.fleet.files import read_text
    from penstock.fleet.load import finder, read_marked

    overrides = overrides_of(settings, data)
    text = read_text(fleet_file)
    try:
        marked = read_marked(text, str(fleet_file), overrides)
    except InputError as error:  # no data to look into
        fleet, found = None, [_unread(str(error), fleet_file, Entry)]
    else:
        fleet, found = find_problems(marked, finder(fleet_file.parent, data))
    number = f"{len(found)} problem{'' if len(found) == 1 else 's'}"
    if as_json:
        print_json({"file": str(fleet_file), "ok": not found,
                    "problems": [entry._asdict() for entry in found]})
    elif found:
        for entry in found:
            print_line(_line(fleet_file, entry))
    if found:
        raise InputError(f"{fleet_file}: {number}")
    if not as_json and fleet is not None:
        models = ", ".join(model.spec.name for model in fleet.models)
        pools = ", ".join(pool.accelerator.name for pool in fleet.accelerators)
        print_line(f"{fleet_file}: no problems; {models} on {pools}")
    return OK


def _unread(message: str, file: Path, finding: "type[Finding]") -> "Finding":
    """The one problem of a text that is no YAML."""
    rest = message.removeprefix(f"{file}").removeprefix(":").strip()
    line, colon, text = rest.partition(": ")
    if colon and line.isdecimal():
        return finding(int(line), "", text, None)
    return finding(None, "", rest, None)


def _line(file: Path, entry: "Finding") -> str:
    place = f"{file}:{entry.line}" if entry.line is not None else f"{file}"
    where = f"{entry.field}: " if entry.field else ""
    fix = f"\n    fix: {entry.fix}" if entry.fix else ""
    return f"{place}: {where}{entry.problem}{fix}"
