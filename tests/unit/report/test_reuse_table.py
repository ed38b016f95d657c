"""The table of reused prefixes."""

from penstock.metrics.reuse_summary import PrefixReuse
from penstock.report.model.reuse import reuse_table
from penstock.report.model.wording import ABSENT


def shares(reuse: PrefixReuse) -> dict[str, tuple[str, ...]]:
    found = reuse_table(reuse)
    return {row[0].text.split(":")[0]: tuple(cell.text for cell in row[1:]) for row in found.rows}


def test_shares_are_of_the_prompts_and_of_the_available() -> None:
    reuse = PrefixReuse(prompt_tokens=4000, available_tokens=1000, pooled_tokens=800,
                        captured_tokens=750, delivered_tokens=760, tier_tokens={"host": 100},
                        load_s=0.5)
    assert shares(reuse)["delivered"] == ("760", "19.0 %", "76.0 %")
    assert shares(reuse)["loaded from host"] == ("100", "2.5 %", "10.0 %")


def test_nothing_available_has_no_share() -> None:
    reuse = PrefixReuse(prompt_tokens=4000, available_tokens=0, pooled_tokens=0, captured_tokens=0,
                        delivered_tokens=0)
    assert shares(reuse)["delivered"] == ("0", "0.0 %", ABSENT)
