"""Autoscalers' files that were changed at random are read, or refused with file and line."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.published.autoscalers.files.read import scaler_of_file
from penstock.registry.make import make_scaler
from support.autoscaler_files import AIBRIX, DYNAMO, KEDA, KNATIVE, RAY
from support.scaled_examples import examples

CONTEXT = ScalerContext((GroupFacts("m", 1, 9, 2, 1.0, 60.0, 1000),), {}, (), (lambda _: 0.01,))
VALUES = st.sampled_from(["", "null", "-1", "0", "1e99", ".nan", "true", "[]", "{}", "[{}]", "text",
                          "'7'", "1m", "{a: 1}", "[1, 2]"])


@st.composite
def changed(draw):
    """A file of which a few lines lack, come twice, or have another value."""
    lines = draw(st.sampled_from([KEDA, KNATIVE, AIBRIX, RAY, DYNAMO])).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "twice", "value"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "twice":
                lines.insert(at, lines[at])
            case _:
                lines[at] = f"{lines[at].split(':')[0]}: {draw(VALUES)}"
    return "\n".join(lines) + "\n"


def outcome(path, text):
    """The error for a text, empty where its policy can be built."""
    path.write_text(text)
    try:
        found = scaler_of_file(str(path))
        make_scaler(str(found.pop("name")), found, CONTEXT)
    except InputError as error:
        return str(error)
    return ""


@examples(200)
@given(changed())
def test_a_changed_file_is_a_policy_or_one_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("file") / "scaler.yaml"
    error = outcome(path, text)
    assert not error or error.startswith(str(path)) or "needs the extra 'arima'" in error
    assert "\n" not in error
