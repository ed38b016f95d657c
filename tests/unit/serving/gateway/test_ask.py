"""What a request asks for: which place counts, and what is told of values that make no sense."""

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import NO_NEEDS, Needs
from penstock.core.slo import ServiceClass, Slo
from penstock.fleet.values_gateway import Alias, RequestParameters, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Offer, read_ask
from penstock.serving.gateway.request_parameters import KINDS

CHAT = ServiceClass("chat", Slo(ttft_s=2.0, itl_s=0.05))
BATCH = ServiceClass("batch", Slo(e2e_s=300.0), priority=3)
OFFER = Offer({"chat": CHAT, "batch": BATCH}, {"small": 1000, "large": 4000},
              {"cheap": Alias(("small",), RequestParameters(max_cost=0.1, min_quality=0.2)),
               "slow": Alias(None, RequestParameters(service_class="batch"))})


def read(body=None, headers=None, tenant=ANYBODY, offer=OFFER):
    return read_ask(orjson.dumps({} if body is None else body), headers or {}, offer, tenant)


def refused(*arguments, **settings):
    with pytest.raises(ServiceError) as error:
        read(*arguments, **settings)
    return error.value


def test_a_plain_request_has_the_fleets_first_class_and_no_needs() -> None:
    ask = read({"model": "small", "prompt": "x" * 40})
    assert (ask.models, ask.model, ask.service_class, ask.needs) == (("small",), "small", CHAT,
                                                                     NO_NEEDS)
    assert (ask.prompt_tokens, ask.tenant, ask.session) == (10, "default", "")


VALUES = {"service_class": ("batch", "chat"), "deadline_s": (7.0, 8.0),
          "min_quality": (0.25, 0.75), "max_cost": (0.5, 1.5), "confidential": (True, False)}


def seen(ask, name):
    if name == "service_class":
        return ask.service_class.name
    if name == "deadline_s":
        return ask.service_class.slo.e2e_s
    return getattr(ask.needs, name)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("first", range(4))
def test_the_first_place_that_says_something_counts(name, first) -> None:
    told, other = VALUES[name]
    said = [None] * first + [told] + [other] * (3 - first)
    header, field, alias, tenant = said
    headers = {} if header is None else {KINDS[name].header.lower(): str(header)}
    body = {"model": "mine"} | ({} if field is None else {"penstock": {name: field}})
    offer = Offer(OFFER.classes, OFFER.models,
                  {"mine": Alias(None, RequestParameters(**{name: alias}))})
    ask = read(body, headers, Tenant("a", defaults=RequestParameters(**{name: tenant})), offer)
    assert seen(ask, name) == told
    assert "penstock" not in ask.body
    assert ask.tenant == "a"


def test_a_session_is_the_requests_own() -> None:
    assert read(headers={"X-Penstock-Session": "s1"}).session == "s1"
    assert read({"penstock": {"session": "s2"}}).session == "s2"


def test_everything_else_is_left_as_it_is() -> None:
    body = {"model": "small", "tools": [{"type": "function", "function": {"name": "f"}}],
            "unheard": {"of": [1, None]}, "penstock": {"min_quality": 0}}
    ask = read(body)
    assert ask.body == {key: value for key, value in body.items() if key != "penstock"}
    assert ask.needs == Needs(min_quality=0.0)


def test_tools_may_be_printed_with_indentation() -> None:
    """A template that writes JSON with indentation makes three tokens of two bytes."""
    schema = {"enum": [1] * 200}
    plain = read({"model": "small", "messages": [], "metadata": schema})
    tools = read({"model": "small", "messages": [], "tools": [{"function": schema}]})
    assert tools.most_prompt_tokens > plain.most_prompt_tokens + 400


@pytest.mark.parametrize(("name", "tenant", "models"), [
    (None, ANYBODY, None), ("auto", ANYBODY, None), ("cheap", ANYBODY, ("small",)),
    ("slow", ANYBODY, None), ("large", ANYBODY, ("large",)),
    (None, Tenant("a", model="cheap"), ("small",)), (None, Tenant("a", "large"), ("large",)),
    ("auto", Tenant("a", models=("large",)), ("large",)),
    ("slow", Tenant("a", models=("large",)), ("large",))])
def test_a_name_stands_for_models(name, tenant, models) -> None:
    body = {} if name is None else {"model": name}
    assert read(body, tenant=tenant).models == models


def test_names_that_a_tenant_may_ask_for() -> None:
    assert OFFER.names() == ["small", "large", "auto", "cheap", "slow"]
    assert OFFER.names(Tenant("a", models=("large",))) == ["large", "slow"]
    assert OFFER.names(Tenant("a", models=("gone",))) == []


def test_a_deadline_narrows_the_class_and_never_widens_it() -> None:
    assert read({"penstock": {"deadline_s": 1}}).service_class == ServiceClass(
        "chat", Slo(ttft_s=1.0, itl_s=0.05, e2e_s=1.0))
    late = read({"penstock": {"deadline_s": 900, "service_class": "batch"}})
    assert late.service_class == BATCH


@pytest.mark.parametrize(("headers", "status", "param", "said"), [
    ({"X-Penstock-Class": "bach"}, 400, "X-Penstock-Class", "did you mean 'batch'?"),
    ({"X-Penstock-Class": ""}, 400, "X-Penstock-Class", "expected a service class"),
    ({"x-penstock-clas": "batch"}, 400, "x-penstock-clas", "did you mean 'X-Penstock-Class'?"),
    ({"X-Penstock-Deadline-S": "soon"}, 400, "X-Penstock-Deadline-S",
     "expected a number, found 'soon'"),
    ({"X-Penstock-Deadline-S": "0"}, 400, "X-Penstock-Deadline-S",
     "expected more than 0, found 0"),
    ({"X-Penstock-Deadline-S": "nan"}, 400, "X-Penstock-Deadline-S",
     "expected a finite number, found nan"),
    ({"X-Penstock-Min-Quality": "1.1"}, 400, "X-Penstock-Min-Quality",
     "expected at most 1, found 1.1"),
    ({"X-Penstock-Max-Cost": "-1"}, 400, "X-Penstock-Max-Cost",
     "expected at least 0, found -1"),
    ({"X-Penstock-Confidential": "yes"}, 400, "X-Penstock-Confidential", "true or false"),
    ({"X-Penstock-Session": "a" * 201}, 400, "X-Penstock-Session", "200 characters"),
    ({"X-Penstock-Session": "\udcff"}, 400, "X-Penstock-Session", "printable"),
    ({"X-Penstock-Class": "batch", "x-penstock-class": "chat"}, 400, "X-Penstock-Class", "twice")])
def test_a_header_that_makes_no_sense_is_named(headers, status, param, said) -> None:
    error = refused({}, headers)
    assert (error.status, error.param) == (status, param)
    assert said in str(error)
    orjson.dumps(error.document())


@pytest.mark.parametrize(("body", "status", "param", "said"), [
    ({"penstock": 3}, 400, "penstock", "expected an object, found 3; its fields"),
    ({"penstock": {"deadline": 3}}, 400, "penstock.deadline", "did you mean 'deadline_s'?"),
    ({"penstock": {"class": "chat"}}, 400, "penstock.class", "did you mean 'service_class'?"),
    ({"penstock": {"service_class": "caht"}}, 400, "penstock.service_class", "mean 'chat'?"),
    ({"penstock": {"confidential": 1}}, 400, "penstock.confidential", "found 1"),
    ({"penstock": {"max_cost": True}}, 400, "penstock.max_cost", "found true"),
    ({"model": "smal"}, 404, "model", "did you mean 'small'?"),
    ({"model": []}, 400, "model", "expected a name, found a list"),
    ({"max_tokens": 1.5}, 400, "max_tokens", "at least 1, found 1.5"),
    ({"n": "3"}, 400, "n", "a whole number, found '3'"), ({"n": 3.0}, 400, "n", "found 3.0"),
    ({"best_of": True}, 400, "best_of", "a whole number, found true"),
    ({"stream": 1}, 400, "stream", "true or false, found 1")])
def test_a_field_that_makes_no_sense_is_named(body, status, param, said) -> None:
    error = refused(body)
    assert (error.status, error.param) == (status, param)
    assert said in str(error)


def test_what_a_tenant_may_not_use_is_refused() -> None:
    tenant = Tenant("shop", models=("small",), service_classes=("batch",))
    error = refused({"model": "large"}, tenant=tenant)
    assert (error.status, error.code) == (403, "model_not_allowed")
    assert str(error) == ("tenant 'shop' may not use model 'large'; expected one of: cheap, slow, "
                          "small")
    error = refused({}, {"X-Penstock-Class": "chat"}, tenant=tenant)
    assert (error.status, error.code) == (403, "class_not_allowed")
    assert read(tenant=tenant).service_class == BATCH, "the first that it may use"
    gone = refused({}, tenant=Tenant("b", models=("gone",)))
    assert (gone.status, gone.code) == (403, "model_not_allowed")


@pytest.mark.parametrize(("body", "most"), [
    ({"model": "small", "max_tokens": 10}, 10), ({"model": "small", "max_tokens": 10**9}, 1000),
    ({"model": "small"}, 1000), ({"model": "auto"}, 4000),
    ({"model": "small", "max_tokens": 10, "n": 3}, 30),
    ({"model": "small", "max_tokens": 10, "n": None, "best_of": -3}, 10),
    ({"model": "small", "max_tokens": 90, "max_completion_tokens": 1}, 90),
    ({"model": "small", "max_tokens": 1, "max_completion_tokens": 90}, 90),
    ({"model": "small", "max_completion_tokens": 1, "messages": []}, 1),
    ({"model": "small", "max_completion_tokens": 1, "prompt": "x"}, 1000),
    ({"model": "small", "max_tokens": 10, "n": 2, "best_of": 4, "prompt": ["a", "b"]}, 80),
    ({"model": "small", "max_tokens": 10, "prompt": [1, 2, 3]}, 10),
    ({"model": "small", "max_tokens": 10, "prompt": [[1, 2], [3]]}, 20),
    ({"model": "small", "input": ["a", "b"]}, 0),
    ({"model": "small", "max_tokens": 10, "messages": [], "input": "x"}, 10)])
def test_the_most_that_an_answer_may_have(body, most) -> None:
    assert read(body).most_output_tokens == most


@pytest.mark.parametrize(("body", "answers", "most_prompt"), [
    ({"prompt": "x" * 5000}, 1, 1000), ({"prompt": ["x" * 5000, "y"]}, 2, 2000),
    ({"input": ["x" * 5000] * 3}, 0, 3000), ({"input": [{"image": "u"}] * 3}, 0, 3000),
    ({"input": "x"}, 0, 64 + 29),
    ({"messages": [], "n": 2}, 2, 64 + 37)])
def test_prompts_of_a_request_together(body, answers, most_prompt) -> None:
    ask = read({"model": "small", **body})
    assert (ask.num_answers, ask.most_prompt_tokens) == (answers, most_prompt)


IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


@pytest.mark.parametrize(("body", "holds_context"), [
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]}]}, True),
    ({"messages": [{"role": "user", "content": [{"image_url": {"url": "https://x"}}]}]}, True),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
     True),
    ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, True),
    ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, True),
    ({"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"}, True),
    ({"input": [{"type": "image_url", "image_url": {"url": "https://x"}}]}, True),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, False),
    ({"messages": [{"role": "user", "content": [{"text": "x"}, "y"]}], "prompt": 3}, False),
    ({"messages": [{"role": "assistant", "content": None, "audio": None}]}, False),
    ({"prompt": ["x", [1, 2]]}, False)])
def test_a_request_with_images_or_audio_holds_the_context(body, holds_context) -> None:
    most = read({"model": "small", "max_tokens": 10, **body}).most_prompt_tokens
    assert (most == 1000) is holds_context


@pytest.mark.parametrize(("path", "body", "output"), [
    ("/v1/completions", {"messages": [], "prompt": "x", "max_completion_tokens": 1}, 1000),
    ("/v1/completions", {"input": "x", "max_tokens": 7}, 7),
    ("/v1/embeddings", {"input": "x", "prompt": "y"}, 0),
    ("/v1/chat/completions", {"messages": [], "prompt": ["x", "y"], "max_tokens": 7}, 7)])
def test_the_path_says_which_fields_an_engine_reads(path, body, output) -> None:
    ask = read_ask(orjson.dumps({"model": "small", **body}), {}, OFFER, path=path)
    assert ask.most_output_tokens == output


def test_an_answer_may_have_the_bytes_that_its_tokens_can_take() -> None:
    most = [read({"model": "small", "max_tokens": 5, **more}).most_answer_bytes for more in (
        {"prompt": "x"}, {"prompt": "x", "logprobs": 5}, {"prompt": "x", "prompt_logprobs": -1},
        {"input": ["x"] * 9})]
    assert most[0] < 2 * 2**20 < 256 * 2**20
    assert most[0] < most[1] < most[2] == 256 * 2**20
    assert most[3] > 9 * 2**18


@pytest.mark.parametrize(("prompt", "tokens"), [
    ("x" * 9, 3), ("", 1), (None, 1), ([5, 6, 7], 3), ([[1, 2], [3]], 3), (["abcd", "efgh"], 2),
    ("\u00e9" * 4, 2)])
def test_tokens_of_a_prompt(prompt, tokens) -> None:
    assert read({"prompt": prompt}).prompt_tokens == tokens


def test_how_deep_a_body_goes_is_up_to_the_client() -> None:
    deep = b'{"messages":' + b'{"content":[' * 400 + b'"abcd"' + b"]}" * 400 + b"}"
    assert read_ask(deep, {}, OFFER).prompt_tokens == 1


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=9), inner, max_size=3), max_leaves=9)
FIELDS = st.sampled_from(["model", "prompt", "input", "messages", "max_tokens", "n", "best_of",
                          "stream", "stream_options", "penstock", "max_completion_tokens"])


@given(st.dictionaries(FIELDS, JSON | st.dictionaries(st.sampled_from([*KINDS, "x"]), JSON)),
       st.dictionaries(st.sampled_from([kind.header for kind in KINDS.values()])
                       | st.just("X-Penstock-Nonsense"), st.text(max_size=9)))
def test_whatever_is_asked_is_understood_or_told_in_one_error(body, headers) -> None:
    try:
        content = orjson.dumps(body)
    except TypeError:
        return  # a number that JSON cannot have
    try:
        ask = read_ask(content, headers, OFFER)
    except ServiceError as error:
        told = error
    else:
        told = None
    if told is not None:
        assert 400 <= told.status < 500
        assert len(orjson.dumps(told.document())) < 1000
        return
    assert ask.prompt_tokens >= 1
    assert 1 <= ask.max_tokens <= 4000
    assert ask.most_prompt_tokens >= 1
    assert ask.body.keys() == body.keys() - {"penstock"}
