"""Options that several commands have, each declared once.

An option that states or replaces a field, of the fleet file or of a request, takes its words and
its checks from that field (``states``, ``replaces``, ``worded``). The REST API has the same fields.
An option of one command alone stands in that command's module.
"""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import FieldText, replaces, states, worded

_MOST = 1_000_000_000  # tokens, or requests

# A fleet file and changes to it.
FleetFile = Annotated[Path, typer.Argument(
    metavar="FLEET", help="The fleet file (YAML).", show_default=False)]
FromFleet = Annotated[Path | None, typer.Option(
    "--fleet", metavar="FLEET", show_default=False,
    help="Fleet file with the traffic, classes, policy or step time.")]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", show_default=False,
    help="Replace a value of the fleet file, such as traffic[0].rate_per_s=4; repeatable.")]
_DATA = typer.Option(
    "--data", "--data-dir", metavar="DIR", show_default=False,
    help="Folder of data such as trace files, besides the fleet file's folder.")
DataDir = Annotated[Path | None, _DATA]
Seed = Annotated[int | None, replaces("--seed", "run.seed", "N")]
_SEED = states("--seed", "run.seed", "SEED")
FirstSeed = Annotated[int, _SEED]
MaybeFirstSeed = Annotated[int | None, _SEED]
NumSeeds = Annotated[int, typer.Option(
    "--seeds", min=1, max=1000, metavar="N", help="Number of consecutive seeds to run, "
                                                  "starting with --seed.")]
NumReplicas = Annotated[int | None, replaces("--replicas", "replicas.count", "N")]
WhichReplica = Annotated[int | None, typer.Option(
    "--replica", min=0, metavar="INDEX", show_default=False,
    help="Use only this replica, counted from 0 in the fleet file's order.")]
Policies = Annotated[str | None, typer.Option(
    "--policies", metavar="LIST", show_default=False,
    help="Policies separated by commas, each with its settings after colons: "
         "penstock,sarathi:chunk_tokens=256:max_num_seqs=128.")]
Jobs = Annotated[int, typer.Option(
    "--jobs", min=0, max=1024, metavar="N", envvar="PENSTOCK_JOBS", show_default=False,
    help="Number of parallel processes; the results do not change. Default: one for each core, "
         "for work of more than two seconds.")]
On = Annotated[str | None, typer.Option(
    "--on", metavar="ray[:HOST:PORT]", show_default=False,
    help="Compute on a Ray cluster: ray for one of this machine alone, ray:HOST:PORT for the "
         "cluster of this node, ray://HOST:PORT for any other.")]

# Results.
AsJson = Annotated[bool, typer.Option(
    "--json", help="Print only one JSON document on stdout.")]
_OUT_DIR = typer.Option(
    "--out", metavar="DIR", show_default=False,
    help="Folder of the results; default: runs/<fleet name> for a run, runs/<fleet name>-plan "
         "for a plan.")
OutDir = Annotated[Path | None, _OUT_DIR]
NeededDir = Annotated[Path, _OUT_DIR]
_OUT_FILE = typer.Option(
    "--out", metavar="FILE", show_default=False,
    help="File for the result; by default the result is only printed.")
OutFile = Annotated[Path | None, _OUT_FILE]
NeededFile = Annotated[Path, _OUT_FILE]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
SelfContained = Annotated[bool, typer.Option(
    "--self-contained", help="Embed the plot library in each page; by default it is a file beside "
                             "the page.")]
Html = Annotated[Path | None, typer.Option(
    "--html", metavar="PATH", show_default=False,
    help="Also write a page: latency, attainment and goodput as plots.")]
WithJournal = Annotated[bool, typer.Option(
    "--journal", help="Also write every replica's journal (see `penstock lab replay`).")]
JournalDir = Annotated[Path | None, typer.Option(
    "--journal", metavar="DIR", show_default=False,
    help="New folder for every replica's journal (see `penstock lab replay`).")]

# Servers.
Host = Annotated[str, typer.Option(
    "--host", metavar="ADDRESS",
    help="Address to listen on; beyond the loopback, a server without keys is open to everybody.")]
AllowedHosts = Annotated[list[str] | None, typer.Option(
    "--allow-host", metavar="NAME", show_default=False,
    help="Accept this host name of clients and web pages, such as a proxy's; repeatable.")]
MaxBodyMb = Annotated[int, typer.Option(
    "--max-body-mb", min=1, max=1024, metavar="N", help="Largest request body, in MB.")]
Port = Annotated[int, typer.Option(
    "--port", min=0, max=65535, metavar="N", help="Port; 0 takes a free port.")]
Workers = Annotated[int, typer.Option(
    "--workers", min=1, max=64, metavar="PROCESSES",
    help="Processes that serve, all on the same port; each takes one core.")]
WorkerOf = Annotated[str | None, typer.Option("--worker", hidden=True)]
TlsCert = Annotated[Path | None, typer.Option(
    "--tls-cert", metavar="FILE", show_default=False,
    help="Serve HTTPS with this certificate and its chain (PEM); a changed file is read again.")]
TlsKey = Annotated[Path | None, typer.Option(
    "--tls-key", metavar="FILE", show_default=False,
    help="Key of the certificate (PEM, without a passphrase).")]
TlsClientCa = Annotated[Path | None, typer.Option(
    "--tls-client-ca", metavar="FILE", show_default=False,
    help="Accept only clients with a certificate of this CA (PEM).")]
OpenToAll = Annotated[bool, typer.Option(
    "--open", help="Without keys, allow access from everywhere.")]
LedgerUrl = Annotated[str | None, typer.Option(
    "--ledger", metavar="URL", envvar="PENSTOCK_LEDGER_URL", show_default=False,
    help="Database of keys and spending, as an SQLAlchemy URL; default: a SQLite file beside "
         "the fleet file, FLEET.ledger.db.")]

# A fleet without a file: options that answer what a fleet file would.
_MODEL = typer.Option(
    "--model", metavar="NAME", show_default=False,
    help="Model of the catalog, or the path of a Hugging Face config.json.")
ModelName = Annotated[str | None, _MODEL]
NeededModel = Annotated[str, _MODEL]
AskedModel = Annotated[str | None, typer.Option(
    "--model", metavar="ID", show_default=False,
    help="Model; default: the only one.")]
FleetModel = Annotated[str, worded("--model", "register:model", "MODEL")]
Gpus = Annotated[list[str] | None, typer.Option(
    "--gpu", metavar="NAME[:COUNT]", show_default=False,
    help="GPUs to choose from, such as h100-80gb:4; without a count, unlimited. Repeatable.")]
_GPU = typer.Option(
    "--gpu", metavar="NAME", show_default=False, help="Accelerator, a name of the catalog.")
GpuName = Annotated[str | None, _GPU]
NeededGpu = Annotated[str, _GPU]
Rate = Annotated[float | None, states("--rate", "traffic.rate_per_s", "R")]
Rates = Annotated[str | None, typer.Option(
    "--rate", metavar="R[,R...]", show_default=False,
    help="Requests per second; several rates, separated by commas, run one after the other.")]
_WAITING_RATE = states("--rate", "deploy:rate_per_s", "PER_S")
WaitingRate = Annotated[float | None, _WAITING_RATE]
WaitingRateOr0 = Annotated[float, _WAITING_RATE]
Ttft = Annotated[float | None, states("--ttft", "service_classes.slo.ttft_s", "S")]
Itl = Annotated[float | None, states("--itl", "service_classes.slo.itl_s", "S")]
Tpot = Annotated[float | None, typer.Option(
    "--tpot", metavar="S", show_default=False, parser=FieldText("service_classes.slo.itl_s"),
    help="Mean time between a request's tokens, seconds, in the place of --itl. (more than 0)")]
E2e = Annotated[float | None, states("--e2e", "service_classes.slo.e2e_s", "S")]
TaskTime = Annotated[float | None, states("--task", "service_classes.slo.task_s", "S")]
SloPercentile = Annotated[float | None, states(
    "--percentile", "service_classes.slo.percentile", "P")]
Confidence = Annotated[float | None, states("--confidence", "plan.confidence", "P")]
LongestS = Annotated[float | None, states("--slo", "deploy:slo_s", "SECONDS")]
Classes = Annotated[list[str] | None, typer.Option(
    "--class", metavar="NAME[:KEY=VALUE...]", show_default=False,
    help="A service class, such as chat, batch or code:share=0.3:ttft=5. Keys: share, rate, "
         "priority, ttft, itl, tpot, e2e, percentile, trace, prompt, output. Repeatable.")]
ClassName = Annotated[str | None, typer.Option(
    "--class", metavar="NAME", show_default=False,
    help="Service class, sent as X-Penstock-Class; default: no header.")]
ScheduledBy = Annotated[str | None, typer.Option(
    "--engine", metavar="NAME[:VERSION]", show_default=False,
    help="Engine of the replicas, with its version: vllm (default), sglang, tensorrt-llm, or "
    "penstock-in-vllm and so on, with Penstock's scheduler inside.")]
_ENGINE = worded("--engine", "register:engine", "KIND")
NeededEngine = Annotated[str, _ENGINE]
EngineKind = Annotated[str | None, _ENGINE]
Prices = Annotated[list[str] | None, typer.Option(
    "--price", metavar="[GPU=]USD", show_default=False,
    help="Price of one GPU for one hour; default: the catalog's. Repeatable.")]
PriceBasis = Annotated[str | None, replaces("--price-basis", "price_basis", "NAME")]
TraceName = Annotated[str | None, typer.Option(
    "--trace", metavar="NAME|FILE", show_default=False,
    help="Built-in table of lengths, such as azure-2023-conv, or a trace file.")]
TraceFile = Annotated[Path | None, typer.Option(
    "--trace", metavar="FILE", show_default=False,
    help="Replay a trace: its lengths, at its own times or at --rate.")]
ColumnNames = Annotated[str | None, typer.Option(
    "--map", metavar="OURS=THEIRS,...", show_default=False,
    help="Columns that the trace file calls by other names, such as "
         "input_tokens=in,arrived_at=ts:ms; the clock's may end in its unit.")]
ClockUnit = Annotated[str | None, states("--clock", "traffic.trace.clock", "UNIT")]
_REQUESTS = states("--requests", "run.num_requests", "N")
NumRequests = Annotated[int | None, _REQUESTS]
SomeRequests = Annotated[int, _REQUESTS]
Duration = Annotated[float | None, states("--duration", "traffic.duration_s", "SECONDS")]
DurationColumn = Annotated[str | None, typer.Option(
    "--duration", metavar="COLUMN", show_default=False,
    help="Column of durations; default: CPU seconds before wall seconds.")]

# Lengths.
PromptLengths = Annotated[str | None, typer.Option(
    "--prompt-tokens", metavar="N|DIST", show_default=False,
    help="Prompt length: a number such as 512, or lognormal quantiles such as "
         "p50=400,p99=6000,max=8000.")]
OutputLengths = Annotated[str | None, typer.Option(
    "--output-tokens", metavar="N|DIST", show_default=False,
        help="Output length, in the same form.")]
PromptRange = Annotated[str | None, typer.Option(
    "--prompt-tokens", metavar="N|LOW-HIGH", show_default=False,
    help="Prompt length; default: 256.")]
OutputRange = Annotated[str | None, typer.Option(
    "--output-tokens", metavar="N|LOW-HIGH", show_default=False,
    help="Output length; default: 64.")]
PromptList = Annotated[str, typer.Option(
    "--prompt-tokens", metavar="N[,N...]", help="Prompt lengths.")]
_PROMPT = typer.Option(
    "--prompt-tokens", min=1, max=_MOST, metavar="N", help="Tokens of each prompt.")
PromptTokens = Annotated[int, _PROMPT]
MeasuredPrompt = Annotated[int | None, _PROMPT]
OutputTokens = Annotated[int, states("--output-tokens", "deploy:output_tokens", "N")]
_MAX_TOKENS = states("--max-tokens", "infer:max_tokens", "N")
MaxTokens = Annotated[int, _MAX_TOKENS]
MaxTokensOrAny = Annotated[int | None, _MAX_TOKENS]
BatchSize = Annotated[int, states("--batch", "deploy:batch", "N")]
BatchList = Annotated[str, typer.Option("--batch", metavar="N[,N...]", help="Requests per batch.")]

# A replica's configuration.
_PRECISION = worded("--precision", "deploy:configuration.precision", "P")
Precision = Annotated[str | None, _PRECISION]
PrecisionOr16 = Annotated[str, _PRECISION]
PrecisionList = Annotated[str | None, worded("--precision", "profile:precisions", "P[,P...]")]
Precisions = Annotated[str | None, worded("--precisions", "deploy:precisions", "LIST")]
_KV_PRECISION = worded("--kv-precision", "deploy:configuration.kv_precision", "P")
KvPrecision = Annotated[str | None, _KV_PRECISION]
KvPrecisionOr16 = Annotated[str, _KV_PRECISION]
Tensor = Annotated[int, states("--tensor", "replicas.parallelism.tensor", "N")]
Pipeline = Annotated[int, states("--pipeline", "replicas.parallelism.pipeline", "N")]
DataRanks = Annotated[int, states("--data-parallel", "replicas.parallelism.data", "N")]
ExpertGroups = Annotated[int, states("--expert-parallel", "replicas.parallelism.expert", "N")]
_KV_TOKENS = states("--kv-tokens", "engine.kv_tokens", "N")
KvTokens = Annotated[int | None, _KV_TOKENS]
KvTokensOrUsual = Annotated[int, _KV_TOKENS]
MaxContext = Annotated[int | None, states("--max-context", "models.max_context_tokens", "N")]
MaxStepTokens = Annotated[int, states(
    "--max-step-tokens", "policies.schedule.max_step_tokens", "N")]
EngineSettings = Annotated[list[str] | None, worded("--with", "register:options", "KEY=VALUE")]

# Load on live endpoints.
Concurrency = Annotated[int, typer.Option(
    "--concurrency", min=1, max=10_000, metavar="N",
    help="Prompts in flight; vary the number to learn latencies under load.")]
Concurrencies = Annotated[str | None, typer.Option(
    "--concurrency", metavar="N[,N...]", show_default=False,
    help="Closed loop instead: keep N requests in flight.")]
Api = Annotated[str, typer.Option(
    "--api", metavar="completions|chat", help="API endpoint to use.")]
PromptKind = Annotated[str, typer.Option(
    "--prompts", metavar="text|ids",
    help="Send prompts as words, fitted to the server's token counts, or as token ids.")]
PromptFile = Annotated[Path, typer.Option(
    "--prompts", metavar="FILE", show_default=False,
    help="Prompts: .jsonl or .csv with `prompt` and optionally `reference`, or .txt with one "
         "per line.")]
Body = Annotated[str | None, typer.Option(
    "--body", metavar="JSON", show_default=False,
    help="Extra fields of every request, such as '{\"temperature\": 0}'.")]
Timeout = Annotated[float, typer.Option(
    "--timeout", min=1e-3, max=1e6, metavar="SECONDS", help="Longest time for an answer.")]
ApiKeyFile = Annotated[Path | None, typer.Option(
    "--api-key-file", metavar="FILE", show_default=False,
    help="Read the key from this file instead of PENSTOCK_API_KEY or OPENAI_API_KEY.")]

# How long and how exactly to search.
Tolerance = Annotated[float, typer.Option(
    "--tolerance", min=1e-4, max=10.0, metavar="SHARE",
    help="Stop at this relative width of the result's interval.")]
_TIME_LIMIT = states("--time-limit", "plan:time_limit_s", "SECONDS")
TimeLimit = Annotated[float, _TIME_LIMIT]
MaybeTimeLimit = Annotated[float | None, _TIME_LIMIT]
Everything = Annotated[bool, typer.Option(
    "--all", help="Include all: every replica (the default), or removed deployments, too.")]

# Profiles, estimates and where models are placed.
_TRAIN = typer.Option(
    "--train", metavar="DIR", show_default=False,
    help="Folder to learn from: profiles of `penstock profile`, or tables in MaverIQ's format.")
TrainDir = Annotated[Path, _TRAIN]
MaybeTrainDir = Annotated[Path | None, _TRAIN]
Fingerprints = Annotated[Path | None, typer.Option(
    "--fingerprints", metavar="FILE", show_default=False,
    help="Fingerprints of the models (a profile's folder, or CSV with MaverIQ's columns); default: "
         "those in the training folder.")]
_ACCELERATOR = typer.Option(
    "--accelerator", metavar="NAME", help="Catalog name of the accelerator of the measurements.")
MeasuredOn = Annotated[str, _ACCELERATOR]
MeasuredOnAny = Annotated[str | None, _ACCELERATOR]
OwnCatalog = Annotated[Path | None, typer.Option(
    "--catalog", metavar="PATH", show_default=False,
    help="File or folder of your own accelerators and models, added to the built-in catalog.")]
NumAccelerators = Annotated[int, typer.Option(
    "--accelerators", min=1, max=64, metavar="N", help="Number of accelerators.")]
UsedGib = Annotated[str | None, typer.Option(
    "--used-gib", metavar="LIST", show_default=False,
    help="Memory already used on each accelerator, GiB, such as 10,0,0,30; default: none.")]
_INTENT = worded("--intent", "deploy:intent", "NAME")
Intent = Annotated[str, _INTENT]
MaybeIntent = Annotated[str | None, _INTENT]
Accuracy = Annotated[Path | None, worded("--accuracy", "deploy:accuracy", "FILE")]
LeastAccuracy = Annotated[float | None, states(
    "--least-accuracy", "deploy:least_accuracy", "A")]
PlacerName = Annotated[str, worded("--placer", "deploy:placer", "NAME")]
_DESIGN = worded("--design", "profile:design", "penstock|maveriq")
Design = Annotated[str, _DESIGN]
MaybeDesign = Annotated[str | None, _DESIGN]
Depths = Annotated[str | None, worded("--depths", "profile:depths", "N[,N...]")]
BudgetS = Annotated[float | None, states("--budget-s", "profile:budget_s", "SECONDS")]

Kubeconfig = Annotated[Path | None, typer.Option(
    "--kubeconfig", metavar="FILE", show_default=False,
    help="Kubeconfig of the cluster; default: the pod's own credentials, or your own "
         "kubeconfig.")]
KubeNamespace = Annotated[str | None, typer.Option(
    "--namespace", metavar="NAME", show_default=False,
    help="Namespace of the objects; default: all for `controller`, and for pods the one of this "
         "pod or of the kubeconfig.")]
KubeContext = Annotated[str | None, typer.Option(
    "--context", metavar="NAME", show_default=False,
    help="Context of the kubeconfig; default: its current one.")]
