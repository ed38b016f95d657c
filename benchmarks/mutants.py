"""Faults put into Penstock by hand, each of which the tests of its area must catch.

    .venv/bin/python benchmarks/mutants.py            # all, some minutes
    .venv/bin/python benchmarks/mutants.py kv-leak    # some, by name

A mutant is one replaced passage of one module, in a copy of the package. The tests run against the
copy and must fail. Exit status 1 says that a mutant survived, or that a passage is not there any
more: then write the fault anew, in the words of today's code. docs/testing.md lists them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: ``old`` becomes ``new`` in ``module``, and one of ``tests`` fails."""

    name: str
    fault: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant("budget-ignores-decodes",
           "a fixed step budget does not count the decodes of the step",
           "penstock.policy.schedule.chunking",
           "self._left = max(0, self._chunk_tokens - load.tokens)",
           "self._left = self._chunk_tokens",
           ("tests/properties/test_laws.py",)),
    Mutant("budget-counts-one-prompt",
           "a solved step budget counts each prompt alone",
           "penstock.policy.schedule.chunking",
           "self._max_step_tokens - load.tokens - prefill_tokens)",
           "self._max_step_tokens - load.tokens)",
           ("tests/properties/test_laws.py",)),
    Mutant("order-by-whole-prompt",
           "shortest remaining prompt first goes by the whole prompt",
           "penstock.policy.schedule.order",
           "return float(sequence.prompt_target - sequence.computed)",
           "return float(sequence.prompt_target)",
           ("tests/unit/policy/test_order.py", "tests/unit/policy/test_replica_scheduler.py")),
    Mutant("decode-preempted-in-flight",
           "a sequence with a step in flight loses its KV cache",
           "penstock.policy.schedule.kv_accounting",
           "if (s.started or s.join_turn >= 0) and not self.uncommitted(s)]",
           "if s.started or s.join_turn >= 0]",
           ("tests/properties/test_laws.py",)),
    Mutant("kv-double-free",
           "the shared blocks of a cached prefix are given back twice",
           "penstock.policy.kv.prefix",
           "self.used_blocks -= num_blocks - shared_blocks",
           "self.used_blocks -= num_blocks",
           ("tests/properties/test_laws.py",)),
    Mutant("kv-leak",
           "a request that ends with a step in flight keeps its blocks",
           "penstock.policy.schedule.kv_accounting",
           "            self._ending.append(sequence)\n",
           "            pass\n",
           ("tests/properties/test_laws.py",)),
    Mutant("kv-evicts-what-is-used",
           "a cached block that two requests share is free once the first of them ends",
           "penstock.policy.kv.prefix",
           "            entry.users -= 1\n",
           "            entry.users = 0\n",
           ("tests/properties/test_laws.py",)),
    Mutant("unknown-is-idle",
           "an engine that was never seen is taken for healthy and idle",
           "penstock.engines.client.state",
           "        self.healthy = False\n        self.draining = False\n",
           "        self.healthy = True\n        self.draining = False\n",
           ("tests/unit/engines/client",)),
    Mutant("lost-is-idle",
           "an engine that no longer answers goes on to look as it did last",
           "penstock.engines.client.state",
           "or reports itself unhealthy.\"\"\"\n        self.healthy = False\n",
           "or reports itself unhealthy.\"\"\"\n",
           ("tests/unit/engines/client",)),
    Mutant("charged-twice",
           "a request that another gateway resolved is charged once more by its own",
           "penstock.serving.tenants.batch_writer",
           "        if before.prompt_tokens or before.output_tokens or before.charged_nanos:\n",
           "        if False:\n",
           ("tests/unit/serving/tenants",)),
    Mutant("release-lost",
           "money held for an answer is not released when the answer ends",
           "penstock.serving.tenants.quota",
           "        self.account.reserved -= nanos\n",
           "",
           ("tests/unit/serving/tenants",)),
    Mutant("replicas-rounded-to-nearest",
           "a plan rounds its number of replicas to the nearest instead of up",
           "penstock.plan.assign.problem",
           "return max(1, math.ceil(load - TOLERANCE), pool.min_replicas)",
           "return max(1, round(load), pool.min_replicas)",
           ("tests/properties/test_plan_laws.py", "tests/unit/plan/assign")),
    Mutant("bound-above-optimum",
           "the bound of a decomposed plan adds the price of scarce cards instead of taking it off",
           "penstock.plan.assign.decompose",
           "priced.least.sum() - prices @ master.limit",
           "priced.least.sum() + prices @ master.limit",
           ("tests/unit/plan/assign/test_decompose.py", "tests/unit/plan/assign/test_closing.py")),
    Mutant("load-beside-full-memory",
           "a device loads a model into memory that others hold",
           "penstock.policy.multiplex.device",
           "return (self.models[model].size_bytes <= self.free_bytes + freed\n",
           "return (self.models[model].size_bytes <= self.memory_bytes\n",
           ("tests/unit/policy/multiplex/test_device.py",)),
    Mutant("loading-is-free",
           "a model that is being loaded takes no memory yet",
           "penstock.policy.multiplex.device",
           "        self.loading = load.model\n"
           "        self.free_bytes -= self.models[load.model].size_bytes\n",
           "        self.loading = load.model\n",
           ("tests/properties/test_multiplex_laws.py",)),
)


def source_of(module: str) -> Path:
    """Where a module lies below ``src``."""
    return Path(*module.split(".")).with_suffix(".py")


def caught_by(mutant: Mutant, root: Path) -> str | None:
    """The first test that fails with the fault, None where all of them pass."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(root / "src", folder, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / source_of(mutant.module)
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: its passage is not once in {mutant.module}")
        path.write_text(text.replace(mutant.old, mutant.new))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider",
             "--hypothesis-profile=unshrunk", *mutant.tests], cwd=root,
            env={**os.environ, "PYTHONPATH": folder}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    found = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if found is None:
        sys.exit(f"{mutant.name}: the tests did not run\n{done.stdout}")
    return found[1]


def main(names: list[str]) -> int:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    survived = 0
    for mutant in MUTANTS:
        if not names or mutant.name in names:
            test = caught_by(mutant, ROOT)
            survived += test is None
            print(f"{mutant.name}: {'SURVIVED' if test is None else test}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
