"""``python -m penstock.serving.planning.worker``: computes one plan in a process of its own.

A plan takes seconds of CPU time, and a thread cannot be stopped. Standard input has the order,
standard output gets the answer, and all other output goes to standard error.
"""

import os
import sys
import threading
import time
from dataclasses import asdict

import orjson

from penstock.core.errors import InputError
from penstock.serving.planning.fleet_plan import Order, answer
from penstock.serving.planning.operation import Answer, failure

_LOOK_S = 1.0


def encoded(order: Order, memory_mb: int) -> bytes:
    """Encode an order for the worker."""
    return orjson.dumps({"order": asdict(order), "memory_mb": memory_mb, "server": os.getpid()})


def main() -> None:
    """Read an order, plan, and write the answer."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given = orjson.loads(sys.stdin.buffer.read())
    threading.Thread(target=end_with, args=(given["server"],), daemon=True).start()
    with stream:
        stream.write(orjson.dumps(asdict(planned(given)), option=orjson.OPT_SERIALIZE_NUMPY))


def end_with(server: int) -> None:
    """End this process once its parent is no longer ``server``, which may have been killed."""
    while os.getppid() == server:
        time.sleep(_LOOK_S)
    os._exit(1)


def planned(given: dict[str, object]) -> Answer:
    """Return the answer to an order that ``encoded`` wrote."""
    order = given["order"]
    assert isinstance(order, dict)
    memory_mb = int(str(given["memory_mb"]))
    try:
        limit_memory(memory_mb * 2**20)
        return answer(Order(**{**order, "what_if": tuple(order["what_if"])}))
    except InputError as error:
        return failure(400, str(error))
    except MemoryError:
        return failure(422, f"the plan needs more than the {memory_mb:,} MB of memory that this "
                            "server gives it; expected fewer requests, seeds or variants")


def limit_memory(num_bytes: int) -> None:
    """Limit the memory of this process, where the operating system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes if hard < 0 else min(num_bytes, hard), hard))


if __name__ == "__main__":
    main()
