"""Objects of a small cluster, as its API shows them."""

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes.names import CREATOR

TIME = "2026-11-24T10:00:00Z"
CREATE = "kubernetes: {create: {image: 'vllm/vllm-openai:v0.19.0', model: meta/llama}}"
FLEET = """\
name: chat
accelerators: [{name: h100-80gb, count: 64, price_per_hour: 4}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: {prompt: {fixed: 300}, output: {fixed: 40}}, rate_per_s: 1, num_requests: 9}]
engine: {name: vllm}
replicas: [{count: 2, KUBERNETES}]
"""
PLANNED = """\
name: chat
accelerators:
  - {name: h100-80gb, count: 8, price_per_hour: 4}
  - {name: l40s, count: 8, price_per_hour: 1}
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: {prompt: {fixed: 300}, output: {fixed: 40}}, rate_per_s: 1, num_requests: 30}]
engine: {name: vllm}
kubernetes: [{create: {image: 'vllm/vllm-openai:v0.19.0', model: meta/llama}}]
"""
SCALED = FLEET + """\
scaling: {start_s: 60, observe: {prometheus: "http://127.0.0.1:9"}}
policies: {scale: penstock}
"""


def text_of(kubernetes=CREATE, text=FLEET):
    """The fleet file with a group's section, or what else its entry has."""
    return text.replace("KUBERNETES", kubernetes)


def values_of(kubernetes=CREATE, text=FLEET):
    return parse_fleet(text_of(kubernetes, text), "chat")


def metadata(name, **more):
    return {"name": name, "namespace": "ns", "uid": f"uid-{name}", "creationTimestamp": TIME,
            **more}


def fleet_document(spec=None, **more):
    return {"kind": "Fleet", "metadata": metadata("chat", generation=3), "spec": spec or {}, **more}


def deployment(name="chat-0", replicas=1, labels=None, selector=None, **status):
    return {"kind": "Deployment", "metadata": metadata(name, labels=labels or {}),
            "spec": {"replicas": replicas,
                     "selector": {"matchLabels": selector or {"app": name}}}, "status": status}


def managed(known, document, manager):
    """Managed fields of an object once a manager has applied a document."""
    others = [one for one in known.get("metadata", {}).get("managedFields", ())
              if one["manager"] != manager]
    return [*others, {"manager": manager, "operation": "Apply", "fieldsV1": {
        "f:spec": {f"f:{key}": {} for key in document["spec"]}}}]


def released(known):
    """Managed fields of a workload once its creator keeps nothing but its replicas."""
    return managed(known, {"spec": ("replicas",)}, CREATOR)


def pod(name, labels=None, *, ready=True, ending=False, placed=True, cost=None):
    more = {"deletionTimestamp": TIME} if ending else {}
    if cost is not None:
        more["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": str(cost)}
    return {"kind": "Pod", "metadata": metadata(name, labels=labels or {"app": "chat-0"}, **more),
            "spec": {"nodeName": "n"} if placed else {},
            "status": {"podIP": "10.0.0.1", "conditions": [
                {"type": "Ready", "status": str(ready)}]}}


def hpa(target="chat-0", kind="Deployment", name="hpa"):
    return {"kind": "HorizontalPodAutoscaler", "metadata": metadata(name),
            "spec": {"scaleTargetRef": {"kind": kind, "name": target}}}
