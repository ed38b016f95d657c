"""Prompts from files of conversations, in the forms that InstructLab and chats have."""

import json

import pytest

from penstock.core.errors import InputError
from penstock.workload.conversations import Conversation, Message, read_conversations

# One record of each form. What InstructLab 0.1 wrote as train_*.jsonl, what its library of
# synthetic data writes for training, its generated and seed data, chats, prompts of a load test.
RECORDS = [
    ({"system": "Be brief.", "user": "What is a weir?", "assistant": "A low dam."},
     [("system", "Be brief."), ("user", "What is a weir?")]),
    ({"messages": [{"role": "system", "content": "Be brief."},
                   {"role": "user", "content": "What is a weir?"},
                   {"role": "assistant", "content": "A low dam."}],
      "metadata": "{}", "id": "1"}, [("system", "Be brief."), ("user", "What is a weir?")]),
    ({"messages": [{"role": "user", "content": "A weir?"},
                   {"role": "assistant", "content": "A low dam."},
                   {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]},
     [("user", "A weir?"), ("assistant", "A low dam."), ("user", "Why?")]),
    ({"instruction": "Sum up.", "input": "Water falls.", "output": "It falls."},
     [("user", "Sum up.\nWater falls.")]),
    ({"question": "How high?", "context": "A dam of 9 m.", "answer": "9 m"},
     [("user", "How high?\nA dam of 9 m.")]),
    ({"prompt": "Water", "model_alias": "gpt2medium-355m"}, [("user", "Water")]),
    ({"system": "", "user": "Hello"}, [("user", "Hello")]),
]


def conversation(messages):
    return Conversation(tuple(Message(*one) for one in messages))


@pytest.mark.parametrize(("record", "messages"), RECORDS)
def test_every_form_is_read(tmp_path, record, messages) -> None:
    for name, text in (("a.jsonl", json.dumps(record)), ("b.json", json.dumps(record, indent=2)),
                       ("c.json", json.dumps([record]))):
        path = tmp_path / name
        path.write_text(text)
        assert read_conversations(path) == (conversation(messages),)


def test_lines_keep_their_order_and_blank_ones_are_passed_over(tmp_path) -> None:
    path = tmp_path / "train_gen.jsonl"
    path.write_text("\ufeff" + "\n\n".join(json.dumps(record) for record, _ in RECORDS) + "\n")
    assert read_conversations(path) == tuple(conversation(messages) for _, messages in RECORDS)


def test_a_folder_has_one_prompt_per_file(tmp_path) -> None:
    for number in range(3):
        (tmp_path / f"workload{number}.json").write_text(json.dumps({"prompt": f"p{number}"}))
    (tmp_path / "README.md").write_text("not one")
    assert [one.text for one in read_conversations(tmp_path)] == ["p0", "p1", "p2"]


def test_the_text_of_a_conversation_is_all_that_is_said() -> None:
    one = conversation([("system", "Be brief."), ("user", "What is a weir?")])
    assert one.text == "Be brief.\n\nWhat is a weir?"
    assert one.num_tokens == 6
    assert conversation([("user", "a")]).num_tokens == 1


@pytest.mark.parametrize(("line", "said"), [
    ("{", ":2: is not JSON"),
    ("[1]", ":2: a list"),
    ('{"text": "x"}', ":2: has the keys text; expected an object with messages"),
    ("{}", ":2: has the keys of nothing"),
    ('{"user": ""}', ":2: user is empty"),
    ('{"user": 5}', ":2: user is a number"),
    ('{"user": "a", "system": []}', ":2: system is a list"),
    ('{"messages": "hello"}', ":2: messages is a text; expected a list"),
    ('{"messages": [{"role": "robot", "content": "x"}]}', ":2: message 1: role is 'robot'"),
    ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
     ":2: message 1: content is"),
    ('{"messages": [{"role": "user"}]}', ":2: message 1: content is null"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', ":2: messages has none of role user"),
])
def test_a_bad_line_is_told_by_its_number(tmp_path, line, said) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(InputError) as error:
        read_conversations(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_bad_lines_are_counted(tmp_path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": ""}\n{"prompt": "a"}\n{\n{}\n')
    with pytest.raises(InputError, match=r":1: prompt is empty.*\(and 2 more bad records\)"):
        read_conversations(path)


@pytest.mark.parametrize(("content", "said"), [
    (None, "cannot be read"), (b"", "no conversations"), (b"\xff", "is not JSON")])
def test_a_file_that_is_none_says_so(tmp_path, content, said) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_conversations(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.json"):
        read_conversations(tmp_path / "empty")
