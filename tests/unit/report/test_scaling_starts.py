"""The parts of a start in the report's table of scaled groups."""

from dataclasses import replace

from penstock.metrics.record import document, read_record
from penstock.metrics.scaling_summary import ScaledGroup
from penstock.report.model.scaling import groups_table
from support.scaled_runs import short_run

PARTS = {"provision": 20.0, "image": 15.0, "weights": 8.03, "warm_up": 0.0}


def test_groups_that_start_alike_share_a_line_with_the_parts():
    found, _ = short_run()
    assert not any("start of" in note for note in groups_table(found).notes)
    whole = replace(found, groups=tuple(replace(group, start_parts_s=PARTS)
                                        for group in found.groups))
    assert groups_table(whole).notes[1:] == (
        "A start of llama on h100 and qwen on h100 takes 43 s: provision 20 s, image 15 s, "
        "weights 8.03 s, warm-up 0 ms.",)


def test_summaries_keep_the_parts_and_do_without():
    group = short_run()[0].groups[0]
    assert "start_parts_s" not in document(group)
    parted = replace(group, start_parts_s=PARTS)
    assert read_record(ScaledGroup, document(parted)) == parted
