"""The status of several processes as that of one gateway."""

import pytest

from penstock.serving.gateway.merged_status import merged_status


def engine(url="http://a", **more):
    return {"url": url, "model": "m", "kind": "vllm", "unavailable": None, "draining": False,
            "seen_s_ago": 0.5, "num_in_flight": 1, "num_running": 3, "num_waiting": 0,
            "num_served": 5, "num_failed": 0, "num_disputed": 0, "pending_output_tokens": 9.0,
            "kv_used_share": 0.2, "confidential": None, "speed_share": 1.0, **more}


def told(*engines, **more):
    status = {"engines": engines, "num_in_flight": 1, "num_waiting": 2,
              "confidential": {"least_count": 16, "classes": []}, "tenants": [],
              "overload": {"pressures": {"memory": 0.1}, "max_resident_bytes": 9,
                           "max_body_bytes": 3, "num_shed": {}}, **more}
    return {"status": status, "counts": {"classes": [], "ticks": []}}


def test_own_requests_are_summed_and_what_all_see_is_not():
    merged = merged_status([told(engine()), told(engine(num_served=7, num_running=4))])
    found, = merged["engines"]
    assert (found["num_in_flight"], found["num_served"], found["num_running"]) == (2, 12, 4)
    assert (merged["workers"], merged["num_in_flight"], merged["num_waiting"]) == (2, 2, 4)


@pytest.mark.parametrize(("seen", "expected"), [
    ([None, "does not answer"], None), (["was never seen", "does not answer"], "was never seen")])
def test_an_engine_is_available_if_it_is_to_one_process(seen, expected):
    merged = merged_status([told(engine(unavailable=one, seen_s_ago=None)) for one in seen])
    assert merged["engines"][0]["unavailable"] == expected
    assert merged["engines"][0]["seen_s_ago"] is None


def test_engines_that_one_process_does_not_know_yet_are_shown():
    merged = merged_status([told(engine()), told(engine(), engine("http://b"))])
    assert [one["url"] for one in merged["engines"]] == ["http://a", "http://b"]


def test_tenants_and_shed_requests_are_added_up_and_money_is_of_the_ledger():
    def tenant(spent, refused):
        return {"tenant": "shop", "num_in_flight": 1, "spent": spent, "budget": 5.0,
                "refused": refused}

    def overload(pressure, shed):
        return {"pressures": {"memory": pressure}, "max_resident_bytes": 9, "max_body_bytes": 3,
                "num_shed": shed}

    merged = merged_status([
        told(tenants=[tenant(1.0, {"rate": 2})], overload=overload(0.1, {"chat": 1})),
        told(tenants=[tenant(1.5, {"rate": 1, "budget": 4})], overload=overload(0.4, {"chat": 2}))])
    assert merged["tenants"] == [{"tenant": "shop", "num_in_flight": 2, "spent": 1.5, "budget": 5.0,
                                  "refused": {"rate": 3, "budget": 4}}]
    assert merged["overload"]["pressures"] == {"memory": 0.4}
    assert merged["overload"]["num_shed"] == {"chat": 3}


def test_of_confidential_requests_the_least_attainment_counts():
    def confidential(share, number):
        return {"least_count": 16, "models": {"m": number}, "classes": [
            {"name": "chat", "outcomes_at_most": {"finished": number},
             "attainment_at_least": share}]}

    merged = merged_status([told(confidential=confidential(0.9, 16)),
                            told(confidential=confidential(None, 32))])
    assert merged["confidential"] == {
        "least_count": 16, "models": {"m": 48}, "classes": [
            {"name": "chat", "outcomes_at_most": {"finished": 48}, "attainment_at_least": 0.9}]}
