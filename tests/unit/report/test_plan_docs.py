import re

from penstock.published.inferno.export import plan_document
from penstock.published.inferno.solve import Settings, solve
from support.inferno_bundles import system
from support.plan_documents import DOCUMENT

NAMES = {"l4-tp2-fp8", "h100-bf16", "chat", "batch", "small", "big"}
OF_THE_FLEET_FILE = {"count", "parallelism", "tensor", "pipeline"}  # in the replicas section


def keys(value):
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_every_key_of_the_document_is_described(repository):
    text = (repository / "docs" / "reference" / "plan-json.md").read_text()
    described = set(re.findall(r"`(\w+)`", text))
    assert keys(DOCUMENT) - NAMES - OF_THE_FLEET_FILE <= described


def test_every_key_of_a_bundles_plan_is_described(repository):
    text = (repository / "docs" / "reference" / "plan-json.md").read_text()
    described = set(re.findall(r"`(\w+)`", text[text.index("## Plans of Inferno bundles"):]))
    document = plan_document(solve(system(), Settings("unlimited")))
    allocation = next(iter(document["allocations"].values()))
    change = next(iter(document["diff"].values()))
    pool = next(iter(document["cards"].values()))
    assert set(document) | set(allocation) | set(change) | set(pool) <= described
