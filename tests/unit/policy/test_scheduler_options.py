import pytest

from penstock.core.errors import InputError
from penstock.policy.schedule.options import PRESETS, scheduler_options


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_itself(name: str) -> None:
    assert scheduler_options(name) == PRESETS[name]
    assert PRESETS[name].policy == name


def test_changes_touch_nothing_else() -> None:
    changed = scheduler_options("sarathi", chunk_tokens=2048)
    assert changed.chunk_tokens == 2048
    assert scheduler_options("sarathi").chunk_tokens == 512
    assert changed.order == "arrival"


def test_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'sarathy'; did you mean 'sarathi'\?"):
        scheduler_options("sarathy")


def test_unknown_knob_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'sarathi' has no option 'chunk_token'; did you mean "
                                         r"'chunk_tokens'\?"):
        scheduler_options("sarathi", chunk_token=3)


def test_the_policys_name_is_not_a_knob() -> None:
    with pytest.raises(TypeError):
        scheduler_options("sarathi", policy="edf")


def test_niyama_has_the_artefacts_constants() -> None:
    niyama = scheduler_options("niyama")
    assert (niyama.hybrid_s_per_token, niyama.batch_itl_s, niyama.safety_factor) == (0.008, 0.4,
                                                                                      1.2)
    assert (niyama.initial_tokens_per_s, niyama.max_decodes, niyama.chunk_tokens) == (8500.0, 256,
                                                                                      256)
    assert niyama.most_slack_first
