"""``penstock profile``: times and memory of a model on an engine, measured or imported."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import App
from penstock.cli.estimate import estimate
from penstock.cli.exits import OK
from penstock.cli.fit import app as fit
from penstock.cli.options import (
    AsJson,
    BatchList,
    BudgetS,
    Depths,
    Design,
    EngineSettings,
    FirstSeed,
    KvPrecision,
    KvTokens,
    NeededDir,
    NeededEngine,
    OutputTokens,
    Pipeline,
    Precision,
    PrecisionList,
    PromptList,
    PromptTokens,
    Tensor,
    Tolerance,
)
from penstock.cli.profile_input import (
    Clock,
    Given,
    Layers,
    MaxRepeats,
    MinRepeats,
    Model,
    Passes,
    Share,
    WarmUps,
)
from penstock.core.errors import InputError

app = App()
app.add_typer(fit, name="fit")
_MODEL = "penstock profile model llama-3-8b --engine vllm --out profiles/llama"
_BATCH = "penstock profile batch config.json --engine transformers --out profiles/batch"
_LOAD = "penstock profile load model.gguf --engine llamacpp --out profiles/load"
_FINGERPRINT = "penstock profile fingerprint llama-3-70b --engine vllm --out profiles/70b"
_IMPORT = "penstock profile import full_model.csv --from maveriq --out profiles/maveriq"


@app.callback(epilog=f"Example: {_MODEL}")
def _profile() -> None:
    """Measure a model on a real engine, fit step times, estimate configurations."""


app.command("estimate", epilog="Example: penstock profile estimate llama-2-7b --train "
            "../shared/data/maveriq --accelerators 8 --intent min_lat")(estimate)


@app.command(epilog=f"Example: {_MODEL}")
def model(
    model: Model, engine: NeededEngine, out: NeededDir,
    prompts: PromptList = "32,128,512,1024",
    batches: BatchList = "1,4,16",
    output: OutputTokens = 16,
    layers: Layers = None, tensor: Tensor = 1, pipeline: Pipeline = 1,
    precision: Precision = None, kv_precision: KvPrecision = None, kv_tokens: KvTokens = None,
    settings: EngineSettings = None, tolerance: Tolerance = 0.05, min_repeats: MinRepeats = 5,
    max_repeats: MaxRepeats = 30, warm_ups: WarmUps = 2, budget_s: BudgetS = None,
    share: Share = 1.0, clock: Clock = "wall", seed: FirstSeed = 0, as_json: AsJson = False,
) -> int:
    """Time prefills and decodes over prompt lengths, batches and contexts.

    `penstock profile fit step-time DIR` turns the folder into a step-time model.
    """
    from penstock.cli.profile_input import session_of, whole_numbers
    from penstock.cli.profile_tables import show
    from penstock.profile.run import profile_model

    given = Given(model, engine, out, settings or (), precision, kv_precision, kv_tokens,
                  tolerance, min_repeats, max_repeats, warm_ups, budget_s, share, clock, seed,
                  layers)
    lengths = whole_numbers("--prompt-tokens", prompts)
    sizes = whole_numbers("--batch", batches)
    with session_of(given, "profiling") as session:
        record = profile_model(session, given.configuration(session, tensor, pipeline), lengths,
                               sizes, output)
    show(record, as_json=as_json)
    return OK


@app.command(epilog=f"Example: {_BATCH}")
def batch(
    model: Model, engine: NeededEngine, out: NeededDir,
    prompt: PromptTokens = 128,
    output: OutputTokens = 16,
    largest: Annotated[int, typer.Option(
        "--largest", min=1, max=1_000_000, metavar="N", help="Largest batch to try.")] = 256,
    sizes: Annotated[str | None, typer.Option(
        "--sizes", metavar="N[,N...]", show_default=False,
        help="Batches to try; default: 1, 2, 4 and so on.")] = None,
    layers: Layers = None, tensor: Tensor = 1, pipeline: Pipeline = 1,
    precision: Precision = None, kv_precision: KvPrecision = None, kv_tokens: KvTokens = None,
    settings: EngineSettings = None, tolerance: Tolerance = 0.05, min_repeats: MinRepeats = 5,
    max_repeats: MaxRepeats = 30, warm_ups: WarmUps = 2, budget_s: BudgetS = None,
    share: Share = 1.0, clock: Clock = "wall", seed: FirstSeed = 0, as_json: AsJson = False,
) -> int:
    """Time batches of equal requests up to the largest that fits into memory.

    A batch that does not fit becomes a row of the profile, and smaller batches are tried.
    """
    from penstock.cli.profile_input import session_of, whole_numbers
    from penstock.cli.profile_tables import show
    from penstock.profile.run import profile_batch

    given = Given(model, engine, out, settings or (), precision, kv_precision, kv_tokens,
                  tolerance, min_repeats, max_repeats, warm_ups, budget_s, share, clock, seed,
                  layers)
    wanted = whole_numbers("--sizes", sizes) if sizes else ()
    with session_of(given, "profiling") as session:
        record = profile_batch(session, given.configuration(session, tensor, pipeline), prompt,
                               output, max(largest, *wanted) if wanted else largest, wanted)
    show(record, as_json=as_json)
    return OK


@app.command(epilog=f"Example: {_LOAD}")
def load(
    model: Model, engine: NeededEngine, out: NeededDir,
    loops: Annotated[int, typer.Option(
        "--loops", min=1, max=10_000, metavar="N",
        help="Number of loads for each state of the page cache.")] = 5,
    layers: Layers = None, tensor: Tensor = 1, pipeline: Pipeline = 1,
    precision: PrecisionList = None, kv_precision: KvPrecision = None, kv_tokens: KvTokens = None,
    settings: EngineSettings = None, budget_s: BudgetS = None, share: Share = 1.0,
    clock: Clock = "wall", seed: FirstSeed = 0, as_json: AsJson = False,
) -> int:
    """Time loading and unloading, with the files in the page cache and without.

    Random weights are first written to a temporary folder, to have files to load. Each row has the
    real content of the page cache.
    """
    from penstock.cli.profile_input import session_of
    from penstock.cli.profile_tables import show
    from penstock.profile.run import profile_load

    given = Given(model, engine, out, settings or (), precision, kv_precision, kv_tokens, 1.0, 1,
                  1, 1, budget_s, share, clock, seed, layers)
    with session_of(given, "loading", from_files=True) as session:
        record = profile_load(session, [given.configuration(session, tensor, pipeline, one)
                                        for one in given.precisions(session)], loops)
    show(record, as_json=as_json)
    return OK


@app.command(epilog=f"Example: {_FINGERPRINT}")
def fingerprint(
    model: Model, engine: NeededEngine, out: NeededDir,
    design: Design = "penstock",
    depths: Depths = None,
    precision: PrecisionList = None, kv_precision: KvPrecision = None, kv_tokens: KvTokens = None,
    settings: EngineSettings = None, tolerance: Tolerance = 0.05, min_repeats: MinRepeats = 5,
    max_repeats: MaxRepeats = 30, warm_ups: WarmUps = 2, passes: Passes = 1,
    budget_s: BudgetS = None, share: Share = 1.0, clock: Clock = "wall", seed: FirstSeed = 0,
    as_json: AsJson = False,
) -> int:
    """Time the model cut to one and to two layers (per pipeline stage), in many settings.

    `penstock profile estimate` computes the whole model's latency and memory from these times.
    """
    from penstock.cli.profile_input import session_of, whole_numbers
    from penstock.cli.profile_tables import show
    from penstock.profile.run import profile_fingerprint

    given = Given(model, engine, out, settings or (), precision, kv_precision, kv_tokens,
                  tolerance, min_repeats, max_repeats, warm_ups, budget_s, share, clock, seed,
                  passes=passes)
    with session_of(given, "fingerprints") as session:
        record = profile_fingerprint(session, design, given.precisions(session),
                                     whole_numbers("--depths", depths) if depths else ())
    show(record, as_json=as_json)
    return OK


@app.command("import", epilog=f"Example: {_IMPORT}")
def import_(
    file: Annotated[Path, typer.Argument(
        metavar="FILE", help="The other tool's file.", show_default=False)],
    tool: Annotated[str, typer.Option(
        "--from", metavar="TOOL", show_default=False,
        help="maveriq, sincere, vidur, aiconfigurator, guidellm or vllm-bench.")],
    out: NeededDir,
    as_json: AsJson = False,
) -> int:
    """Make a profile from another tool's measurements."""
    from penstock.catalog.catalog import load_catalog
    from penstock.cli.console import note, print_json
    from penstock.cli.profile_import import read_any
    from penstock.estimate.units import unit_problems
    from penstock.perf.profiles.folder import Profile
    from penstock.perf.profiles.imported import write_imported
    from penstock.perf.profiles.summary import profiled_runs, summaries

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there already; expected a new folder")
    imported = read_any(file, tool)
    problems = unit_problems(profiled_runs(Profile({}, imported.measurements, str(file))),
                             load_catalog())
    imported = replace(imported, notes=(*imported.notes, *(f"warning: {problem}"
                                                           for problem in problems)))
    write_imported(imported, tool, file, out)
    num_points = len(summaries(imported.measurements))
    if as_json:
        print_json({"profile": str(out), "rows": len(imported.measurements),
                    "points": num_points, "notes": imported.notes})
        return OK
    for line in imported.notes:
        note(line)
    typer.echo(f"profile: {out} ({len(imported.measurements):,} rows of {num_points:,} points)")
    return OK
