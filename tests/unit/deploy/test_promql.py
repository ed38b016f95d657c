"""The reader of PromQL finds every metric, and refuses what it does not know."""

import pytest

from support.promql import PromqlError, Selector, read


def test_metrics_labels_and_groups_are_found():
    found = read("""sum by (model_name, le) (rate(
        penstock:a_bucket{x="1", y=~"b|c",}[5m] offset 1h))
        / on (model_name) group_left (z) max without (q) (b{} == bool 2) # remark(
        and histogram_quantile(0.99, c) unless absent(d) or topk(3, e)""")
    assert found.selectors == [
        Selector("penstock:a_bucket", (("x", "=", "1"), ("y", "=~", "b|c"))), Selector("b"),
        Selector("c"), Selector("d"), Selector("e")]
    assert found.grouping == {"model_name", "le", "z", "q"}


def test_words_of_the_language_are_no_metrics():
    assert read('vector(1) * 2e-3 > label_replace(x, "a", "$1", "b", "(.*)")').selectors == [
        Selector("x")]
    assert read("sum(count) by (a)").selectors == [Selector("count")]
    assert read("a[10m:1m] + a[$__rate_interval]").selectors == [Selector("a"), Selector("a")]


@pytest.mark.parametrize("text", [
    "rte(a[5m])", "a{b}", "a{b=c}", "sum by a (b)", "a[5]", "a[5x]", "(a", "a)", "{b='c'}", "a ! b",
    "a{b='c'", "sum by ('a') (b)", "a{b='c' d='e'}"])
def test_a_false_text_is_refused(text):
    with pytest.raises((PromqlError, ValueError)):
        read(text)
