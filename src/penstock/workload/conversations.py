"""Prompts to send, from files of conversations: InstructLab's, chat messages, prompts alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import InputError, kind_of

_MOST_BYTES = 1 << 30
_BYTES_PER_TOKEN = 4
_ROLES = ("system", "developer", "user", "assistant", "tool")
_EXPECTED = ("expected an object with messages, or system and user, or prompt, question or "
             "instruction")


class Message(NamedTuple):
    """One message: its role and its text."""

    role: str
    text: str


class Conversation(NamedTuple):
    """Messages before the requested answer."""

    messages: tuple[Message, ...]

    @property
    def text(self) -> str:
        """All of it as one prompt."""
        return "\n\n".join(message.text for message in self.messages)

    @property
    def num_tokens(self) -> int:
        """About how many tokens it has: one for four bytes."""
        return max(1, len(self.text.encode()) // _BYTES_PER_TOKEN)


class _FaultError(Exception):
    """Fault of one record."""


def read_conversations(path: Path) -> tuple[Conversation, ...]:
    """The conversations of a file of JSON lines or JSON, or of all such files of a folder.

    A record is an object with ``messages`` (role and content; InstructLab's training data and
    chats), ``system`` and ``user`` (InstructLab's train_*.jsonl and test_*.jsonl), ``question``
    or ``instruction`` with an ``input`` or ``context`` (its generated and seed data), or
    ``prompt``. Answers in it are left out, other keys are passed over. Raises InputError for the
    first bad record, by its line, with the number of others.
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in (".json", ".jsonl"))
        if not files:
            raise InputError(f"{path}: holds no .json and no .jsonl files")
    else:
        files = [path]
    found: list[Conversation] = []
    faults: list[str] = []
    for file in files:
        for where, record in _records(file):
            try:
                found.append(_conversation(record))
            except _FaultError as fault:
                faults.append(f"{where}: {fault}")
    if faults:
        others = len(faults) - 1
        raise InputError(faults[0] + (f" (and {others} more bad record{'s' * (others > 1)})"
                                      if others else ""))
    if not found:
        raise InputError(f"{path}: no conversations")
    return tuple(found)


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """Every record with its place. What is no JSON is a record that is wrong."""
    import orjson

    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file}: larger than {_MOST_BYTES >> 20} MiB")
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    if file.suffix != ".jsonl":
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            if file.suffix == ".json":
                raise InputError(f"{file}: is not JSON ({error})") from None
        else:  # a list of records, or one that fills the file
            if isinstance(document, list):
                yield from ((f"{file}: record {number}", one)
                            for number, one in enumerate(document, 1))
            else:
                yield str(file), document
            return
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            try:
                yield f"{file}:{number}", orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield f"{file}:{number}", _FaultError(f"is not JSON ({error})")


def _conversation(record: Any) -> Conversation:
    if isinstance(record, _FaultError):
        raise record
    if not isinstance(record, dict):
        raise _FaultError(f"{kind_of(record)}; {_EXPECTED}")
    if "messages" in record:
        return Conversation(_messages(record["messages"]))
    for key in ("user", "prompt", "question", "instruction"):
        if key in record:
            given = _text(record, "input") or _text(record, "context")
            said = "\n".join(part for part in (_needed(record, key), given) if part)
            system = _text(record, "system")
            return Conversation((*([Message("system", system)] if system else []),
                                 Message("user", said)))
    raise _FaultError(f"has the keys {', '.join(map(str, record)) or 'of nothing'}; {_EXPECTED}")


def _messages(found: Any) -> tuple[Message, ...]:
    """The messages up to the last that somebody answers."""
    if not isinstance(found, list):
        raise _FaultError(f"messages is {kind_of(found)}; expected a list of role and content")
    messages: list[Message] = []
    for number, one in enumerate(found, 1):
        role = one.get("role") if isinstance(one, dict) else None
        if role not in _ROLES:
            raise _FaultError(f"message {number}: role is {str(role)[:40]!r}; expected one of "
                              + ", ".join(_ROLES))
        messages.append(Message(str(role), _content(number, one)))
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if not any(message.role == "user" and message.text.strip() for message in messages):
        raise _FaultError("messages has none of role user that says something")
    return tuple(messages)


def _content(number: int, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):  # parts of a chat
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "\n".join(map(str, texts)) if all(isinstance(text, str) for text in texts) \
            else None
    if not isinstance(content, str):
        raise _FaultError(f"message {number}: content is {kind_of(message.get('content'))}; "
                          "expected a text")
    return content


def _needed(record: Mapping[str, Any], key: str) -> str:
    text = _text(record, key)
    if not text:
        raise _FaultError(f"{key} is empty; expected a text")
    return text


def _text(record: Mapping[str, Any], key: str) -> str:
    """A text of a record, empty where it has none."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _FaultError(f"{key} is {kind_of(value)}; expected a text")
    return value.strip()
