"""Command lines as a shell's text, with the reason of each argument as a comment."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from penstock.engines.launch.starts import LEADER, Start
from penstock.engines.launch.values import CommandLine, Option
from penstock.fleet.write import yaml_text

_END = "END_OF_OPTIONS"


def shell_text(starts: Iterable[Start], notes: Sequence[str]) -> str:
    """Return one command for each machine of each replica, to be run on that machine. The reasons
    of a group's arguments stand at the group's first replica; at others stand their own alone."""
    lines = [f"# Note: {text}." for text in notes]
    known: dict[int, set[str]] = {}
    for start in starts:
        said = known.setdefault(start.placed.number, set())
        reasons = [line for line in _reasons(start.line) if line not in said]
        said.update(reasons)
        lines += ["", f"# {_title(start)}", *(f"#   {line}" for line in reasons), *_options(start),
                  _command(start)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _title(start: Start) -> str:
    one = start.placed
    rank = f", machine {start.rank + 1} of {len(one.machines)}" if len(one.machines) > 1 else ""
    return (f"replicas[{one.number}], replica {one.replica + 1}{rank}: {start.engine} "
            f"{start.version} on {start.machine}, port {start.port}")


def _reasons(line: CommandLine) -> Iterator[str]:
    for name, (value, reason) in line.environment.items():
        yield f"{name}={value}: {reason}"
    for argument in line.arguments:
        yield f"{' '.join(argument.words)}: {argument.reason}"
    for option in line.options:
        yield f"{option_text(option)}: {option.reason}"
    if any(LEADER in word for word in line.argv):
        yield f"{LEADER}: set it to the address of the replica's first machine"


def option_text(option: Option) -> str:
    """Return an option in one line, such as ``kv_cache_config.dtype=fp8``."""
    value = str(option.value).lower() if isinstance(option.value, bool) else option.value
    return f"{'.'.join(option.keys)}={value}"


def _options(start: Start) -> list[str]:
    if not start.line.options:
        return []
    text = yaml_text(start.line.options_document()).rstrip("\n")
    return [f"cat > {shlex.quote(start.options_file)} <<'{_END}'", text, _END]


def _command(start: Start) -> str:
    parts = [" ".join([*(f"{name}={shlex.quote(str(found.value))}" for name, found
                         in start.line.environment.items()), *start.line.program]),
             *(" ".join(map(_quoted, one.words)) for one in start.line.arguments)]
    return " \\\n  ".join(parts)


def _quoted(word: str) -> str:
    return f'"{word}"' if LEADER in word else shlex.quote(word)
