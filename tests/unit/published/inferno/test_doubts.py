import pytest

from penstock.published.inferno.doubts import doubts
from penstock.published.inferno.read import parse_bundle
from support.inferno_bundles import document, rows, server, system


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_nothing_is_said_of_a_sound_bundle(schema) -> None:
    assert doubts(system(schema)) == ()


def told(change) -> tuple[str, ...]:
    made = document()
    change(made)
    return doubts(parse_bundle(made, "body"))


def renamed(part, index, **values):
    return lambda made: rows(made, part)[index].update(values)


@pytest.mark.parametrize(("change", "words"), [
    (renamed("modelData", 0, acc="2xa"), "acc '2xa' is no accelerator, so this profile is never "
     "used; did you mean '2xA'? ('small')"),
    (renamed("acceleratorData", 0, type="a"), "type 'a' has no count in capacity-data, so there "
     "are no devices of it; did you mean 'A'? ('A')"),
    (renamed("serviceClassData", 0, priority=0), "priority 0 counts as 100, the lowest; expected 1 "
     "to 100 (class 'Premium')"),
    (renamed("serviceClassData", 1, priority=-3), "priority -3 counts as 100"),
    (renamed("serviceClassData", 1, priority=101), "priority 101 counts as 100"),
    (lambda made: rows(made, "serviceClassData")[0]["modelTargets"][0].update(model="smal"),
     "model 'smal' has no performance data; did you mean 'small'? (class 'Premium')"),
    (lambda made: server(made, "Free-small")["currentAlloc"].update(accelerator="AB"),
     "currentAlloc accelerator 'AB' is no accelerator"),
    (lambda made: made["system"]["optimizerData"]["optimizer"].update(saturationPolicy="none"),
     "saturationPolicy 'none' counts as None; did you mean 'None'?")])
def test_each_kind_of_fault_is_one_line(change, words) -> None:
    (line,) = told(change)
    assert words in line


def test_faults_of_a_kind_are_counted() -> None:
    def change(made):
        for number, row in enumerate(rows(made, "modelData")[:3]):
            row["acc"] = f"C{number}"

    (line,) = told(change)
    assert line.endswith("('small'; 2 more like it)")


def test_what_is_left_out_is_no_slip() -> None:
    def change(made):
        del rows(made, "serviceClassData")[0]["priority"]
        made["system"]["optimizerData"]["optimizer"] = {"saturationPolicy": ""}
        del made["system"]["capacityData"]

    assert told(change) == ()
