"""Laws of the gateway that hold in every schedule of faults. Each violation is a line."""

from collections import Counter, defaultdict
from math import ceil

from penstock.core.money import to_nanos
from support.simulated_engines import HONEST
from support.simulated_gateways import PRICE, SHOP_PLACES

_CLOSED = {"nobody": {"missing_key"}, "stranger": {"invalid_key"}, "gone": {"invalid_key"},
           "ghost": {"unknown_tenant"}, "admin": {"not_a_tenant"}}
_NANOS_IN, _NANOS_OUT = (round(one * 1000) for one in PRICE.values())
_LAG_S = 3.0  # in which every gateway learns of a revoked key, while nothing fails


def violations_now(gateway):
    """Admission: what must hold at every instant."""
    proxy, gate, most = gateway.product._proxy, gateway.gate, gateway.limits.max_in_flight
    on_engines = sum(len(one.in_flight) for one in gateway.product.engines)
    if on_engines > most:
        yield f"admission: {on_engines} requests are on engines, at most {most} may be"
    if not 0 <= proxy.admission.num_in_flight <= most:
        yield f"admission: {proxy.admission.num_in_flight} requests of {most} are under way"
    if proxy.admission.num_waiting > gateway.limits.max_queue:
        yield f"admission: {proxy.admission.num_waiting} requests wait"
    if proxy.admission.num_waiting and proxy.admission.num_in_flight < most:
        yield "admission: a request waits for a place although there is one"
    for name, quota in gate._quotas.items():
        if quota.in_flight < 0 or quota.account.reserved < 0:
            yield f"counters: {name} has {quota.in_flight} places, {quota.account.reserved} held"
    if "shop" in gate._quotas and gate._quotas["shop"].in_flight > SHOP_PLACES:
        yield "admission: a tenant has more requests in flight than it may"


def shared_violations_now(world):
    """Admission: what must hold over all gateways together, while each can renew its slices."""
    in_flight = sum(gateway.gate._quotas["shop"].in_flight for gateway in world.all_gateways
                    if gateway.alive and gateway.gate is not None)
    if in_flight > SHOP_PLACES and _is_steady(world):
        yield (f"admission: all gateways have {in_flight} requests in flight of a tenant with "
               f"{SHOP_PLACES} places")


def _is_steady(world):
    """Whether nothing kept a gateway from its ledger so far."""
    return not any(kind.startswith(("database", "gateway: is frozen")) for kind in world.faults)


def final_violations(world):
    """Everything that can be judged when a schedule is over."""
    laws = (_one_end, _sums, _charges, _seen_is_charged, _drained, _doors, _retries, _leases,
            _repeats, _budget, _no_bugs)
    return [line for law in laws for line in law(world)]


def _one_end(world):
    """Every admitted request ends exactly once; at most once where its gateway was killed."""
    for gateway in world.all_gateways:
        ends = Counter(one["decision_id"] for one in gateway.ends)
        for decision_id in {*gateway.leases, *ends}:
            num, killed = ends[decision_id], gateway.was_killed
            if decision_id not in gateway.leases:
                yield f"ends: {decision_id} ended and was not admitted"
            elif num > 1 or (num == 0 and not killed):
                yield f"ends: {decision_id} has {num} ends"


def _sums(world):
    """Spending equals the sum of charges."""
    found = defaultdict(lambda: [0, 0, 0, 0])
    for row in world.database.charges().values():
        if row.prompt_tokens or row.output_tokens or row.charged_nanos:
            sums = found[row.tenant, row.day, row.model]
            for place, number in enumerate((1, row.prompt_tokens, row.output_tokens,
                                            row.charged_nanos)):
                sums[place] += number
    for key, row in world.database.sums().items():
        if list(row[3:7]) != found.pop(key, [0, 0, 0, 0]):
            yield f"sums: spending of {key} is not the sum of its charges"
    for key in found:
        yield f"sums: charges of {key} are in no sum"


def _charges(world):
    """A charge is what was relayed or honestly counted, at most the hold, of an admitted
    request."""
    leases = {decision_id: lease for gateway in world.all_gateways
              for decision_id, lease in gateway.leases.items()}
    answers = _by_decision(world)
    for decision_id, row in world.database.charges().items():
        lease = leases.get(decision_id)
        if lease is None:
            yield f"charges: {decision_id} was never admitted"
            continue
        if row.tenant != lease._quota.tenant.name:
            yield f"charges: {decision_id} is charged to {row.tenant}"
        if row.charged_nanos > lease._held.nanos:
            yield (f"charges: {decision_id} costs {row.charged_nanos}, above the "
                   f"{lease._held.nanos} held for it")
        most = max((max(one.sent, one.counted) for one in answers[decision_id]), default=0)
        estimated = any(one.kind in ("no usage", "absurd usage") for one in answers[decision_id])
        if row.output_tokens > most and not estimated:
            yield f"charges: {decision_id} costs {row.output_tokens} tokens of {most} sent"
        expected = row.prompt_tokens * _NANOS_IN + row.output_tokens * _NANOS_OUT
        if row.charged_nanos != min(expected, lease._held.nanos):
            yield f"charges: {decision_id} costs {row.charged_nanos}, its tokens {expected}"


def _seen_is_charged(world):
    """What a client saw is charged: the end of an answer before the client sees it, any part of it
    once its gateway has ended in good order."""
    charges, answers = world.database.charges(), _by_decision(world)
    killed = {id(one.process) for one in world.all_gateways
              if one.was_killed or one.could_not_write}
    for heard in world.heard:
        if heard.status != 200 or not heard.tokens:
            continue
        name, row = heard.decision_id, charges.get(heard.decision_id)
        if heard.ended and not heard.charged and heard.trouble is None:
            yield f"lost: a client saw the end of {name} before its charge was written"
        if id(heard.gateway) in killed and not (heard.ended and heard.charged):
            continue
        if row is None:
            yield f"lost: {name} was answered and is not charged"
        elif row.output_tokens < min(ceil(len(heard.tokens) / 2), heard.max_tokens):
            yield (f"lost: {name} costs {row.output_tokens} tokens, its client saw "
                   f"{len(heard.tokens)}")
        elif heard.ended and not row.resolved:
            (answer,) = [one for one in answers[name] if one.number == heard.tokens[0][0]]
            if answer.kind in HONEST and answer.usage is not None \
                    and row.output_tokens != answer.counted:
                yield f"charges: {name} costs {row.output_tokens} of {answer.counted} tokens"


def _drained(world):
    """A drained engine gets nothing new."""
    for gateway in world.all_gateways:
        for url, since_s, until_s in gateway.drained:
            for end in gateway.ends:
                for one in end["attempts"]:
                    if one["url"] == url and one["at_s"] > since_s and (
                            until_s is None or one["at_s"] < until_s):
                        yield f"drains: {end['decision_id']} went to a drained engine"


def _doors(world):
    """Nobody comes in without a valid key of a listed tenant."""
    use_of = {key: use for use, key in world.keys.items()}
    for heard in world.heard:
        if heard.status is None:
            continue
        codes = _CLOSED.get(use_of[heard.key])
        if codes is not None and heard.code not in codes and not (
                heard.status in (401, 403) and not heard.ended):
            yield f"doors: {use_of[heard.key]} heard {heard.status} {heard.code}"
        revoked_s = world.revoked.get(heard.key)
        if revoked_s is not None and _is_steady(world) and heard.begun_s > revoked_s + _LAG_S \
                and heard.status != 401:
            yield f"doors: a revoked key is let in after {heard.begun_s - revoked_s:.1f} s"
    tenants = {"shop", "bar"}
    for gateway in world.all_gateways:
        for decision_id, lease in gateway.leases.items():
            if lease._quota.tenant.name not in tenants:
                yield f"doors: {decision_id} of {lease._quota.tenant.name} was admitted"


def _retries(world):
    """A request is tried on different engines, at most so often; a client sees one answer."""
    for gateway in world.all_gateways:
        for end in gateway.ends:
            urls = [one["url"] for one in end["attempts"]]
            if len(urls) > gateway.limits.attempts or len(set(urls)) < len(urls):
                yield f"retries: {end['decision_id']} went to {urls}"
    for heard in world.heard:
        if len({answer for answer, _ in heard.tokens}) > 1:
            yield f"retries: a client saw a mixture of answers in {heard.decision_id}"
        if [place for _, place in heard.tokens] != list(range(len(heard.tokens))):
            yield f"retries: a client saw gaps in {heard.decision_id}"
        if heard.ended and heard.status == 200 and heard.error:
            yield f"retries: {heard.decision_id} ended well and with an error"


def _repeats(world):
    """A request that was sent again with its idempotency key is charged once."""
    charged = Counter()
    charges = world.database.charges()
    for gateway in world.all_gateways:
        for decision_id, lease in gateway.leases.items():
            row = charges.get(decision_id)
            if lease._kept is not None and row is not None and row.charged_nanos:
                charged[lease._kept.claim.digest] += 1
    for number in charged.values():
        if number > 1:
            yield f"repeats: one request with an idempotency key is charged {number} times"


def _leases(world):
    """What a killed gateway had in progress is charged once, as it was recorded."""
    for row in world.database.open_requests():
        yield f"leases: {row.decision_id} is open for good"
    charges = world.database.charges()
    for gateway in world.all_gateways:
        for row in gateway.open_when_killed:
            found = charges.get(row.decision_id)
            if found is None:
                yield f"leases: {row.decision_id} of a killed gateway is lost"
            elif found.charged_nanos != row.charged_nanos:
                yield (f"leases: {row.decision_id} costs {found.charged_nanos}, "
                       f"{row.charged_nanos} was recorded")


def _budget(world):
    """No more is spent than a budget: by one gateway at a time, and by several that can renew
    their slices."""
    if world.one_at_a_time or _is_steady(world):
        spent = sum(row.charged_nanos for row in world.database.charges().values()
                    if row.tenant == "shop")
        if spent > to_nanos(world.budget):
            yield f"budget: {spent} was spent of {to_nanos(world.budget)}"


def _no_bugs(world):
    for heard in world.heard:
        if heard.status == 500:
            yield f"bug: a client heard of one ({heard.code})"
    for trouble in world.troubles:
        yield f"bug: {trouble}"


def _by_decision(world):
    found = defaultdict(list)
    for answer in world.answers:
        found[answer.decision_id].append(answer)
    return found

