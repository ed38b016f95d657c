"""Loading and unloading a model, with its files in the page cache and without."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penstock.core.errors import InputError
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.perf.profiling.machine import load_average, process_read_bytes, release_memory
from penstock.perf.profiling.protocol import OutOfMemoryError, Room
from penstock.profile.measure import Profiler, one_line
from penstock.profile.page_cache import cached_share, evict, state, total_bytes, warm

COLD, WARM, IN_MEMORY = "cold", "warm", "in_memory"


def measure_loads(profiler: Profiler, configuration: ModelConfiguration, room: Room, num_loops: int
                  ) -> None:
    """Load and unload ``num_loops`` times from each state of the page cache.

    A row's ``cache`` is what the cache was found to be, whatever was wanted of it. Where weights
    are drawn in memory there are no files and one state. The first load of a process also imports
    and compiles: it is a warm-up. Raises OutOfTimeError.
    """
    files = list(profiler.engine.prepare(configuration))
    states = (COLD, WARM) if files else (IN_MEMORY,)
    rows = [one for one in profiler.record.measurements
            if one.kind == "load" and one.configuration == configuration]
    if any(one.outcome != "ok" for one in rows):
        return
    done = {one.repeat for one in rows if not one.warm_up}
    wanted = [(number, states[number % len(states)]) for number in range(num_loops * len(states))
              if number not in done]
    if not wanted:
        return
    if not _load_once(profiler, configuration, room, files, states[-1], 0, warm_up=True):
        return
    for number, wanted_state in wanted:
        profiler.check_time()
        if not _load_once(profiler, configuration, room, files, wanted_state, number,
                          number / (num_loops * len(states))):
            return


def _load_once(profiler: Profiler, configuration: ModelConfiguration, room: Room,
               files: Sequence[Path], wanted: str, number: int, done: float = 0.0, *,
               warm_up: bool = False) -> bool:
    """One load, a token to see that it is ready, one unload; whether it went well."""
    engine, clocks, record = profiler.engine, profiler.clocks, profiler.record
    profiler.unload()
    share, found = _set_cache(files, wanted)
    load = load_average()
    blank = Measurement("load", configuration, repeat=number, warm_up=warm_up, cache=found,
                        cached_share=share, file_bytes=float(total_bytes(files)) if files else None,
                        load_average=load[0] if load else None, started_s=clocks.wall(),
                        session=record.session,
                        reason="" if found == wanted else f"the cache was to be {wanted}")
    record.begin(blank.key)
    read_bytes, cpu_s, started_s = process_read_bytes(), clocks.cpu(), clocks.now()
    rows: list[Measurement] = []
    try:
        engine.load(configuration, room)
        loaded_s = clocks.now()
        release_memory()
        memory = engine.memory()
        began_s = clocks.now()
        engine.run(1, 1, 1)
        ready_s, read_after = loaded_s + clocks.now() - began_s, process_read_bytes()
        rows.append(replace(
            blank, seconds=loaded_s - started_s, first_token_s=ready_s - started_s,
            cpu_s=clocks.cpu() - cpu_s, memory_loaded_bytes=memory.held_bytes,
            memory_bytes=engine.memory().held_bytes, memory_peak_bytes=memory.peak_bytes,
            kv_tokens=memory.kv_tokens,
            read_bytes=None if read_bytes is None or read_after is None or not files
            else read_after - read_bytes))
        began_s = clocks.now()
        profiler.unload()
        rows.append(replace(blank, kind="unload", seconds=clocks.now() - began_s, cpu_s=None,
                            memory_bytes=engine.memory().held_bytes, cached_share=None))
    except (OutOfMemoryError, MemoryError) as error:
        rows = [replace(blank, outcome="out_of_memory", warm_up=False,
                        reason=one_line(str(error) or "no memory"))]
    except InputError:
        raise
    except Exception as error:
        rows = [replace(blank, outcome="failed", warm_up=False,
                        reason=one_line(f"{type(error).__name__}: {error}"))]
    finally:
        record.add(rows)
    profiler.pause(clocks.now() - started_s)
    for row in rows:
        profiler.on_row(row, done)
    return rows[0].outcome == "ok"


def _set_cache(files: Sequence[Path], wanted: str) -> tuple[float | None, str]:
    """Bring the cache into a state as far as the system lets us; what it is then."""
    if not files:
        return None, IN_MEMORY
    if wanted == COLD:
        evict(files)
    else:
        warm(files)
    share = cached_share(files)
    found = state(share)
    # Without a look at it, files that were just read are in the cache as far as there is memory.
    return share, WARM if found == "unknown" and wanted == WARM else found
