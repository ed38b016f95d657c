"""Reads files of sessions: agents and conversations whose turns wait for answers."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from penstock.core.errors import InputError
from penstock.workload.session_turns import Fields, SessionFile, Turn, Wait
from penstock.workload.text import json_rows, open_text

_SCHEMA = "dynamo.agentic_mooncake"
_MOONCAKE_TOKENS = 512
_WEKA_TOKENS = 64
_BAILIAN_TOKENS = 16
_SEARCHED_ROWS = 1000
_PROMPT, _OUTPUT = ("input_length", "input_tokens"), ("output_length", "output_tokens")
_DELAY, _TIME = ("delay", "delay_ms"), ("timestamp", "created_time")
_FIELDS: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("sessions", frozenset({"t_ms", "blocks", "parent"})),
    ("bailian", frozenset({"chat_id", "parent_chat_id"})),
    ("llmservingsim", frozenset({"sub_requests"})),
    ("weka", frozenset({"requests", "models"})), ("weka", frozenset({"requests", "block_size"})))
_OF_SECOND = ("dependencies", "not_before_ms")
_OF_AGENTS = frozenset({"wait_for", "branches", "tool_wait_ms", "prefix_reset", *_OF_SECOND})


def session_form(path: Path, first: Mapping[str, object]) -> str | None:
    """Return the form of a file of JSON lines whose ``first`` line has these fields, None where
    the file is no file of sessions."""
    if first.get("schema") == _SCHEMA or ("request_id" in first and first.keys() & _OF_AGENTS):
        return "agentic"
    for form, fields in _FIELDS:
        if fields <= first.keys():
            return form
    if "session_id" in first and any(name in first for name in _PROMPT) and _states_delays(path):
        return "aiperf"
    return None


def _states_delays(path: Path) -> bool:
    """Whether one of the first rows has a delay in place of a time."""
    with open_text(path) as lines:
        return any(f'"{name}"' in line for line in islice(lines, _SEARCHED_ROWS) for name in _DELAY)


def read_session_file(path: Path, form: str) -> SessionFile:
    """Return the turns of a file of sessions.

    Raises RowFaultError for a row that is not of the ``form``, and InputError for a file that
    cannot be read or holds no request.
    """
    found = FORMS[form](_rows(path))
    if not found.turns:
        raise InputError(f"{path}: no requests")
    return found


def _rows(path: Path) -> Iterator[Fields]:
    return (Fields(number, row) for number, _, row in json_rows(path))


def _derived(rows: Iterator[Fields]) -> SessionFile:
    """Sessions that were derived from Mooncake's hashes: {id, session, turn, parent, t_ms, in, out,
    blocks}, where blocks are pairs of a first hash and a count."""
    turns = []
    for row in rows:
        prompt, parent = row.tokens("in", least=1), row.text("parent")
        blocks: list[object] = []
        for pair in row.items("blocks"):
            match pair:
                case [int(first), int(count)] if 0 <= count <= prompt:
                    blocks += range(first, first + count)
                case _:
                    raise row.fault(f"blocks has {str(pair)[:40]!r}; expected pairs of a first "
                                    "hash and a count")
        turns.append(Turn(
            row.row, row.text("id"), row.text("session"), row.seconds(1e3, "t_ms"), prompt,
            row.tokens("out"), row.checked_hashes("blocks", blocks, prompt, _MOONCAKE_TOKENS),
            () if parent == "-1" else (Wait(parent),)))
    return SessionFile(turns, _MOONCAKE_TOKENS, timed=True)


def _bailian(rows: Iterator[Fields]) -> SessionFile:
    """Bailian's chats: a chat goes on with its parent."""
    found = list(rows)
    # A log may begin in the midst of a chat, whose parent is then not in the file.
    known = {row.text("chat_id") for row in found}
    parents = {row.text("chat_id"): parent for row in found
               if (parent := row.text("parent_chat_id", "-1")) != "-1" and parent in known}
    turns = []
    for row in found:
        name, prompt = row.text("chat_id"), row.tokens("input_length", least=1)
        waits = (Wait(parents[name]),) if name in parents else ()
        turns.append(Turn(
            row.row, name, _root(name, parents), row.seconds(1.0, "timestamp"), prompt,
            row.tokens("output_length"), row.hashes(prompt, _BAILIAN_TOKENS), waits))
    return SessionFile(turns, _BAILIAN_TOKENS, timed=True)


def _root(name: str, parents: Mapping[str, str]) -> str:
    """The first chat before, the chat itself where the parents go in a circle."""
    first, seen = name, {name}
    while first in parents:
        first = parents[first]
        if first in seen:
            return name
        seen.add(first)
    return first


def _aiperf(rows: Iterator[Fields]) -> SessionFile:
    """Mooncake's rows with sessions: first turns have a time, next turns a delay after the answer
    to the turn before."""
    turns: list[Turn] = []
    last: dict[str, str] = {}
    timed = True
    for row in rows:
        name = str(row.row)
        session = row.text("session_id", f"row {name}")
        at_s = row.seconds(1e3, *_TIME) if row.first_of(_TIME) else None
        waits: tuple[Wait, ...] = ()
        if session in last:
            if all(row.given.get(one) is not None for one in _DELAY):
                raise row.fault(f"has {' and '.join(_DELAY)}; expected one of them")
            delay_s = row.seconds(1e3, *_DELAY) if row.first_of(_DELAY) else (
                0.0 if at_s is None else None)
            waits = (Wait(last[session], delay_s),)
            timed = timed and at_s is not None
        last[session] = name
        prompt = row.tokens(*_PROMPT, least=1)
        turns.append(Turn(row.row, name, session, at_s, prompt, row.tokens(*_OUTPUT),
                          row.hashes(prompt, _MOONCAKE_TOKENS), waits))
    return SessionFile(turns, _MOONCAKE_TOKENS, timed)


def _agentic(rows: Iterator[Fields]) -> SessionFile:
    """Agentic Mooncake: a header and rows with dependencies (version 2), or rows alone that wait
    for others (version 1)."""
    turns: list[Turn] = []
    block_tokens, local, second = _MOONCAKE_TOKENS, False, False
    for row in rows:
        if row.row == 0 and "schema" in row.given:
            version = row.given.get("version")
            if version not in (1, 2):
                raise row.fault(f"version is {str(version)[:40]!r}; expected 1 or 2")
            second = version == 2
            if "block_size" in row.given:
                block_tokens = row.tokens("block_size", least=1)
            scope = row.given.get("hash_id_scope", "global")
            if scope not in ("local", "global"):
                raise row.fault(f"hash_id_scope is {str(scope)[:40]!r}; expected local or global")
            local = scope == "local"
            continue
        if not second and (unknown := row.first_of(_OF_SECOND)) is not None:
            raise row.fault(f"{unknown} without a header of version 2; expected a first line with "
                            f"schema {_SCHEMA}, version and block_size")
        prompt = row.tokens("input_length", least=1)
        name = row.text("request_id")
        session = row.text("play_id" if second else "session_id", row.text("session_id", name))
        turns.append(Turn(
            row.row, name, session, _start_s(row, second=second), prompt,
            row.tokens("output_length"), row.hashes(prompt, block_tokens),
            _dependencies(row) if second else _wait_for(row),
            session if local else "", row.text("model", "")))
    return SessionFile(_not_before(turns), block_tokens, timed=False)


def _not_before(turns: list[Turn]) -> list[Turn]:
    """The turns, of which those that wait and state a time wait for the start of their session,
    too: the time moves with the session."""
    starts: dict[str, Turn] = {}
    for turn in turns:
        if not turn.waits:
            starts.setdefault(turn.session, turn)
    found = []
    for turn in turns:
        start = starts.get(turn.session)
        if turn.waits and turn.at_s is not None and start is not None:
            delay_s = max(0.0, turn.at_s - (start.at_s or 0.0))
            turn = turn._replace(waits=(*turn.waits, Wait(start.name, delay_s, on_dispatch=True)))
        found.append(turn)
    return found


def _start_s(row: Fields, *, second: bool) -> float | None:
    name = "not_before_ms" if second else "timestamp"
    return row.seconds(1e3, name) if row.first_of([name]) else None


def _dependencies(row: Fields) -> tuple[Wait, ...]:
    found = []
    for number, one in enumerate(row.items("dependencies"), 1):
        each = Fields(row.row, one, f"dependency {number}: ")
        trigger = each.text("trigger", "completion")
        if trigger not in ("dispatch", "completion"):
            raise each.fault(f"trigger is {trigger[:40]!r}; expected dispatch or completion")
        delay_s = each.seconds(1e3, "delay_ms") if each.first_of(["delay_ms"]) else 0.0
        found.append(Wait(each.text("request_id"), delay_s, trigger == "dispatch"))
    return tuple(dict.fromkeys(found))


def _wait_for(row: Fields) -> tuple[Wait, ...]:
    """Return the waits of a row of version 1, which branches repeat from the other side."""
    delay_s = sum(row.seconds(1e3, name) for name in ("delay", "tool_wait_ms")
                  if row.first_of([name]))
    names = row.items("wait_for")
    if not all(isinstance(name, str) for name in names):
        raise row.fault("wait_for is not a list of names")
    return tuple(Wait(str(name), delay_s) for name in dict.fromkeys(names))


def _llmservingsim(rows: Iterator[Fields]) -> SessionFile:
    """LLMServingSim's sessions: requests in order, a tool's time between two of them."""
    turns: list[Turn] = []
    names: set[str] = set()
    for row in rows:
        session = _session_of_line(row, "session_id", names)
        waits: tuple[Wait, ...] = ()
        at_s: float | None = row.seconds(1e9, "arrival_time_ns")
        for number, one in enumerate(row.items("sub_requests"), 1):
            each = Fields(row.row, one, f"sub_requests {number}: ")
            name = f"{row.row}/{number}"
            turns.append(Turn(row.row, name, session, at_s, each.tokens("input_toks", least=1),
                              each.tokens("output_toks"), (), waits))
            tool_s = each.seconds(1e9, "tool_duration_ns") \
                if each.first_of(["tool_duration_ns"]) else 0.0
            at_s, waits = None, (Wait(name, tool_s),)
    return SessionFile(turns, _MOONCAKE_TOKENS, timed=False)


def _session_of_line(row: Fields, field: str, names: set[str]) -> str:
    """The name of a session that is one line, put into the ``names`` before. Raises RowFaultError
    for a name that another line has."""
    name = row.text(field, str(row.row))
    if name in names:
        raise row.fault(f"the session {name[:60]!r} appears twice; expected one line for each")
    names.add(name)
    return name


def _weka(rows: Iterator[Fields]) -> SessionFile:
    """AgentX's sessions in Weka's form, one a line. Sub-agents are entries with requests of their
    own, which begin after the request before and which the next request waits for."""
    turns: list[Turn] = []
    names: set[str] = set()
    for row in rows:
        size = row.tokens("block_size", least=1) if "block_size" in row.given else _WEKA_TOKENS
        if size != _WEKA_TOKENS:
            raise row.fault(f"block_size is {size}; expected {_WEKA_TOKENS}")
        _WekaSession(_session_of_line(row, "id", names), turns).add(row, (), f"{row.row}/", None)
    return SessionFile(turns, _WEKA_TOKENS, timed=False)


class _WekaSession:
    """The requests of one session, put into ``turns``."""

    def __init__(self, session: str, turns: list[Turn]) -> None:
        self._session = session
        self._turns = turns

    def add(self, found: Fields, waits: tuple[Wait, ...], prefix: str, end_s: float | None
            ) -> tuple[Wait, ...]:
        """Add the requests of a session or of a sub-agent, the first after ``waits``, which ended
        at ``end_s`` when the session was recorded. Returns what the next request waits for."""
        for number, one in enumerate(found.items("requests"), 1):
            name = f"{prefix}{number}"
            each = Fields(found.row, one, f"requests {number}: ")
            if each.given.get("type") == "subagent":
                ended = self.add(each, waits, f"{name}/", end_s)
                waits = tuple(dict.fromkeys((*waits, *ended)))
                continue
            at_s = each.seconds(1.0, "t")
            think_s = each.seconds(1.0, "think_time") if each.first_of(["think_time"]) else (
                0.0 if end_s is None else max(0.0, at_s - end_s))
            prompt = each.tokens("in", least=1)
            self._turns.append(Turn(
                found.row, name, self._session, None if waits else at_s, prompt,
                each.tokens("out"), each.hashes(prompt, _WEKA_TOKENS),
                tuple(Wait(wait.name, think_s) for wait in waits), self._session))
            end_s = at_s + (each.seconds(1.0, "api_time") if each.first_of(["api_time"]) else 0.0)
            waits = (Wait(name, 0.0),)
        return waits


FORMS: Final[Mapping[str, Callable[[Iterator[Fields]], SessionFile]]] = {
    "agentic": _agentic, "aiperf": _aiperf, "bailian": _bailian, "llmservingsim": _llmservingsim,
    "sessions": _derived, "weka": _weka}
"""Readers of rows by the form of the file."""

WITHOUT_TIMES: Final = frozenset({"agentic", "aiperf", "llmservingsim", "weka"})
"""Forms that need not have the time of a request that waits for others."""
