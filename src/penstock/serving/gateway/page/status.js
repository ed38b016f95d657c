"use strict";

const PERIOD_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let key = sessionStorage.getItem("penstock-key");

// All text goes in as text: names of engines and tenants are never read as markup.
function element(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children.map((one) => (one instanceof Node ? one : String(one))));
  return found;
}

const NONE = "\u2013";
const whole = (value) => Math.round(value).toLocaleString("en");
const share = (value) => (value === null ? NONE : `${(100 * value).toFixed(value < 0.9995 ? 1 : 0)} %`);
const money = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 1 ? 6 : 2 });

function time(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  return seconds < 1 ? `${(1000 * seconds).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

function fact(name, value, small) {
  return element("div", {}, element("dt", {}, name),
    element("dd", {}, value, element("small", {}, small)));
}

function badge(good, text) {
  return element("span", { class: `badge ${good ? "good" : "bad"}` },
    element("span", { class: "mark", "aria-hidden": "true" }, good ? "\u2713" : "\u00d7"), text);
}

function meter(part) {
  const bar = element("i");
  bar.style.width = `${Math.min(100, 100 * part)}%`;
  return element("span", { class: part > 0.95 ? "meter full" : "meter", "aria-hidden": "true" }, bar);
}

function table(id, head, rows) {
  const words = ["State", "Attainment", "Rejected by", "Replicas", "Reason", "Figures"];
  const headRow = element("tr", {}, ...head.map((one) => element("th",
    { scope: "col", class: words.includes(one) ? "text" : "number" }, one)));
  const body = rows.map(([first, ...cells]) => element("tr", {},
    element("th", { scope: "row" }, first),
    ...cells.map((one) => (one instanceof Node && one.tagName === "TD" ? one : element("td", {}, one)))));
  byId(id).replaceChildren(element("thead", {}, headRow), element("tbody", {}, ...body));
}

function named(name, more) {
  return element("span", {}, name, element("span", { class: "sub" }, more));
}

function text(node) {
  return element("td", { class: "text" }, node);
}

function disputed(number) {
  return number === 0 ? "0" : badge(false, whole(number));
}

function holding(one, events) {
  const known = (events || []).find((other) => other.url === one.url);
  const blocks = !known ? "" : known.is_followed ? `, ${whole(known.num_blocks)} blocks known`
    : ", blocks unknown";
  return blocks + (one.adapters ? `, ${whole(one.adapters.length)} adapters` : "");
}

function engineRow(one, events) {
  const able = one.unavailable === null;
  const slow = one.speed_share < 1 ? `, starting slowly (${share(one.speed_share)})` : "";
  return [named(one.url, `${one.model} on ${one.kind}${holding(one, events)}`),
    text(badge(able, able ? `healthy${slow}` : one.unavailable)),
    whole(one.num_running), whole(one.num_waiting),
    element("span", {}, meter(one.kv_used_share), share(one.kv_used_share)),
    whole(one.num_served), whole(one.num_failed), disputed(one.num_disputed),
    one.seen_s_ago === null ? "never" : `${time(one.seen_s_ago)} ago`];
}

function turnRows(pool) {
  return (pool.models || []).map((one) => {
    const on = pool.devices.filter((device) => one.model in device.resident);
    const loading = pool.devices.some((device) => device.loading === one.model);
    const state = on.length ? `on device ${on.map((device) => device.device).join(", ")}`
      : loading ? "is being loaded" : "is not loaded";
    const refused = Object.entries(one.num_refused).map(([why, num]) => `${why} ${whole(num)}`);
    return [named(one.model, pool.pool),
      text(one.set_apart === null ? state : badge(false, one.set_apart)),
      whole(on.reduce((total, device) => total + device.resident[one.model], 0)),
      whole(one.num_waiting), whole(one.num_started), text(refused.join(", ") || NONE)];
  });
}

function classRow(one) {
  const targets = Object.entries(one.targets).map(([name, s]) => `${name.replace(/_s$/, "")} ${time(s)}`);
  const quantiles = (of) => (of === null ? NONE : `${time(of.p50)} / ${time(of.p99)}`);
  const ends = ["failed", "broken", "shed", "cancelled", "refused"];
  const recent = one.recent_attainment;
  const kept = recent !== null && 100 * recent >= one.percentile;
  return [named(one.name, targets.join(", ") || "no targets"),
    text(recent === null ? NONE : badge(kept, `${share(recent)} of ${one.percentile} %`)),
    whole(one.num_judged), quantiles(one.ttft_s), quantiles(one.e2e_s),
    whole(one.outcomes.finished || 0), ...ends.map((name) => whole(one.outcomes[name] || 0))];
}

function tenantRow(one) {
  const budget = one.budget === null ? "no budget"
    : element("span", {}, meter(one.budget ? one.spent / one.budget : 1), `of ${money(one.budget)}`);
  const refused = Object.entries(one.refused).map(([why, num]) => `${why} ${whole(num)}`);
  return [one.tenant, whole(one.num_in_flight), money(one.spent), budget,
    text(refused.join(", ") || NONE)];
}

function age(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function scaling(found) {
  byId("scaling").hidden = !found;
  if (!found) return;
  const decided = found.decided_s_ago === null ? "has not decided yet"
    : `decided ${age(found.decided_s_ago)} ago`;
  const held = found.num_held ? `, ${whole(found.num_held)} requests wait for a replica` : "";
  byId("scaler").textContent = `Policy ${found.policy} ${decided}` +
    `${found.advise ? " and only advises" : ""}. ${money(found.cost_per_hour)} per hour${held}.` +
    (found.missing ? ` Metrics are missing: ${found.missing}.` : "");
  table("groups", ["Group", "Wanted", "Ready", "Starting", "Waiting", "Draining", "Bounds", "Per hour"],
    found.groups.map((one, number) => [named(one.model, `group ${number}`), whole(one.advised),
      whole(one.ready), whole(one.starting), whole(one.waiting), whole(one.draining),
      `${one.min_replicas}\u2013${one.max_replicas}`,
      money(one.cost_per_hour * (one.ready + one.starting + one.draining))]));
  table("changes", ["Decided", "Replicas", "Reason", "Figures"],
    found.changes.slice(-10).reverse().map((one) => [
      `${age(Math.max(0, Date.now() / 1000 - one.at_s))} ago`,
      text(one.targets.map((target, group) => (target === one.before[group] ? `${target}`
        : `${one.before[group]} \u2192 ${target}`)).join(", ")),
      text(one.reason),
      text(Object.entries(one.terms).map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`)
        .join(", ") || NONE)]));
}

function pulse(status) {
  const ticks = 90, width = 720 / ticks, height = 116;
  const most = Math.max(4, ...status.ticks.map((one) => one.num_ended));
  const bar = (kind, one, from, to) => {
    const rect = document.createElementNS(SVG, "rect");
    const place = { class: kind, x: 720 - (one.s_ago / status.tick_s + 1) * width + 1, y: height - to * height / most,
      width: width - 2, height: (to - from) * height / most };
    for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    return rect;
  };
  byId("pulse").replaceChildren(...status.ticks.flatMap((one) => [
    bar("missed", one, 0, one.num_missed), bar("ended", one, one.num_missed, one.num_ended)]));
}

function show(status) {
  const able = status.engines.filter((one) => one.unavailable === null).length;
  const num = status.engines.length;
  const pools = status.pools || [];
  byId("headline").textContent = num === 0 && pools.length
    ? "Model multiplexing"
    : `${able} of ${num} engine${num === 1 ? "" : "s"} healthy`;
  byId("lede").textContent = "Present state of the gateway, every two seconds.";
  const recent = status.ticks.filter((one) => one.s_ago > 0 && one.s_ago <= 30);
  const sum = (name) => recent.reduce((total, one) => total + one[name], 0);
  const judged = status.classes.reduce((total, one) => total + one.num_judged, 0);
  const met = status.classes.reduce((total, one) => total + one.num_met, 0);
  const spent = status.tenants.reduce((total, one) => total + one.spent, 0);
  byId("facts").replaceChildren(
    fact("On engines", whole(status.num_in_flight), `${whole(status.num_waiting)} waiting`),
    fact("Requests per second", (sum("num_ended") / 30).toFixed(1), "ended in the last 30 s"),
    fact("Output tokens per second", whole(sum("output_tokens") / 30), "in the last 30 s"),
    fact("Attainment", share(judged ? met / judged : null), `of ${whole(judged)} since the start`),
    fact("Spent", money(spent), "in the present periods"));
  pulse(status);
  table("engines", ["Engine", "State", "Running", "Waiting", "KV cache", "Served", "Failed", "Usage disputed", "Seen"],
    status.engines.map((one) => engineRow(one, status.kv_events)));
  table("turns", ["Model", "State", "Running", "Waiting", "Started", "Rejected by"],
    pools.flatMap(turnRows));
  scaling(status.scaling);
  byId("turning").hidden = !pools.length;
  byId("answering").hidden = !num && pools.length > 0;
  table("classes", ["Class", "Attainment", "Judged", "TTFT p50 / p99", "e2e p50 / p99", "Finished",
    "Failed", "Broken", "Shed", "Cancelled", "Refused"], status.classes.map(classRow));
  table("tenants", ["Tenant", "In flight", "Spent", "Budget", "Rejected by"],
    status.tenants.map(tenantRow));
  byId("figures").hidden = false;
  byId("door").hidden = true;
}

function stamp(good, words) {
  byId("stamp").className = `stamp ${good ? "good" : "bad"}`;
  byId("stamp").textContent = words;
}

async function look() {
  try {
    const answer = await fetch("/v1/penstock/status", {
      cache: "no-store", headers: key ? { Authorization: `Bearer ${key}` } : {} });
    const document_ = await answer.json();
    if (answer.ok) {
      show(document_);
      stamp(true, `live, ${new Date().toLocaleTimeString()}`);
    } else {
      byId("door").hidden = answer.status !== 401 && answer.status !== 403;
      byId("figures").hidden = true;
      byId("lede").textContent = document_.error.message;
      stamp(false, `the gateway said ${answer.status}`);
    }
  } catch {
    stamp(false, "the gateway does not answer");
  }
  setTimeout(look, PERIOD_MS);
}

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  sessionStorage.setItem("penstock-key", key);
});
look();
