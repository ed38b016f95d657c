"""The table of reused prompt prefixes."""

from penstock.metrics.reuse_summary import PrefixReuse
from penstock.report.model import wording
from penstock.report.model.table import Table, table


def reuse_table(reuse: PrefixReuse) -> Table:
    """Prompt tokens that had been computed before, by where they could have been found."""
    rows = [("available: computed before by any replica", reuse.available_tokens),
            ("pooled: if all caches were one", reuse.pooled_tokens),
            ("captured: in the chosen replica's cache", reuse.captured_tokens),
            ("delivered: not computed again", reuse.delivered_tokens)]
    rows += [(f"loaded from {name}", tokens) for name, tokens in (reuse.tier_tokens or {}).items()]
    return table("Prefix reuse", ("prompt tokens", "number", "of the prompts",
                                  "of the available"), [
        (name, wording.count(tokens), _share(tokens, reuse.prompt_tokens),
         _share(tokens, reuse.available_tokens)) for name, tokens in rows])


def _share(tokens: int, of: int) -> str:
    return wording.percent(tokens / of if of else None, 1)
