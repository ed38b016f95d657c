"""Rendered kustomizations of deploy/, and the checks that hold for each."""

from pathlib import Path

from support.kustomization import Document, pod_templates, render

REPOSITORY = Path(__file__).parents[2]
KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"
NAMES = ("base", "overlays/gateway", "overlays/endpoint-picker", "overlays/monitoring",
         "overlays/local", "overlays/external-scaler")
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]}}


def rendered() -> dict[str, list[Document]]:
    """Objects by kustomization."""
    return {name: render(KUSTOMIZE / name) for name in NAMES}


def of_kind(objects: list[Document], kind: str) -> list[Document]:
    """The objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def names_of(objects: list[Document], kind: str) -> set[str]:
    """Names of the objects of a kind."""
    return {one["metadata"]["name"] for one in of_kind(objects, kind)}


def problems(objects: list[Document], beside: list[Document]) -> list[str]:
    """Everything wrong with objects, which may refer to others ``beside`` them."""
    found, whole = [], [*objects, *beside]
    for workload, template in pod_templates(objects):
        found += [f"{workload['metadata']['name']}: {text}"
                  for text in (*_of_pod(template["spec"], whole),
                               *_of_selector(workload, template))]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
        for one in of_kind(objects, kind):
            found += [f"{kind} {one['metadata']['name']}: {text}"
                      for text in _CHECKS[kind](one["spec"], whole)]
    for one in (*of_kind(objects, "RoleBinding"), *of_kind(objects, "ClusterRoleBinding")):
        found += [f"{one['metadata']['name']}: {text}" for text in _of_binding(one, whole)]
    return found


def _of_selector(workload, template):
    selector, labels = workload["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]
    if not selector.items() <= labels.items():
        yield "its selector does not match its pods"
    if selector != {key: labels.get(key) for key in ("app.kubernetes.io/name",
                                                     "app.kubernetes.io/component")}:
        yield "its selector is not name and component"


def _of_pod(spec, whole):
    accounts = names_of(whole, "ServiceAccount")
    account = spec.get("serviceAccountName")
    if account not in (None, *accounts):
        yield f"no ServiceAccount {account}"
    if "automountServiceAccountToken" not in spec:
        yield "it does not say whether it gets a token"
    bound = {subject["name"] for kind in ("RoleBinding", "ClusterRoleBinding")
             for one in of_kind(whole, kind) for subject in one["subjects"]}
    if spec.get("automountServiceAccountToken") is not (account in bound):
        yield "a token is mounted exactly where the account has rights"
    context = spec.get("securityContext", {})
    if not (context.get("runAsNonRoot") and context.get("runAsUser", 0) >= 10000
            and context.get("seccompProfile") == {"type": "RuntimeDefault"}):
        yield "its pod may run as root or without a seccomp profile"
    for rule in spec.get("topologySpreadConstraints", ()):
        if not _pods(rule["labelSelector"]["matchLabels"], whole):
            yield "a spread constraint matches no pod"
    volumes = {one["name"]: one for one in spec.get("volumes", ())}
    used = {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", ())}
    if used != set(volumes):
        yield f"volumes and mounts differ: {sorted(used ^ set(volumes))}"
    for one in volumes.values():
        if "configMap" in one and one["configMap"]["name"] not in names_of(whole, "ConfigMap"):
            yield f"no ConfigMap {one['configMap']['name']}"
        if "emptyDir" in one and "sizeLimit" not in one["emptyDir"]:
            yield f"volume {one['name']} has no limit"
    for container in spec["containers"]:
        yield from _of_container(container)


def _of_container(container):
    ports = {one["name"] for one in container.get("ports", ())}
    probes = [name for name in ("startupProbe", "livenessProbe", "readinessProbe")
              if name in container]
    for name in probes:
        (action,) = [container[name][key] for key in ("httpGet", "tcpSocket", "grpc")
                     if key in container[name]]
        if action["port"] not in ports:
            yield f"{name}: no port {action['port']}"
    if "readinessProbe" not in probes:
        yield "no readiness probe"
    if container.get("securityContext") != HARDENED:
        yield "its container is not hardened"
    if not any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", ())):
        yield "it has no /tmp to write to"
    resources = container.get("resources", {})
    if not ({"cpu", "memory"} <= set(resources.get("requests", ()))
            and "memory" in resources.get("limits", ())):
        yield "it states no requests of CPU and memory, or no limit of memory"
    if ":" not in container["image"].rsplit("/", 1)[-1] or container["image"].endswith(":latest"):
        yield f"image {container['image']} has no version"
    for variable in container.get("env", ()):
        if "value" in variable and any(word in variable["name"] for word in
                                       ("KEY", "TOKEN", "SECRET", "PASSWORD", "URL")):
            yield f"{variable['name']} is not taken from a Secret"


def _pods(labels, whole):
    """Pod templates that have labels."""
    return [template for _, template in pod_templates(whole)
            if labels.items() <= template["metadata"]["labels"].items()]


def _ports(labels, whole):
    return {port["name"] for template in _pods(labels, whole)
            for one in template["spec"]["containers"] for port in one.get("ports", ())}


def _of_service(spec, whole):
    ports = _ports(spec["selector"], whole)
    for port in spec["ports"]:
        if port["targetPort"] not in ports:
            yield f"no pod has the port {port['targetPort']}"


def _of_budget(spec, whole):
    if not _pods(spec["selector"]["matchLabels"], whole):
        yield "no pod"


def _of_policy(spec, whole):
    selector = spec["podSelector"].get("matchLabels", {})
    if not _pods(selector, whole):
        yield "no pod"
    if ("ingress" in spec) > ("Ingress" in spec["policyTypes"]) or ("egress" in spec) > (
            "Egress" in spec["policyTypes"]):
        yield "rules of a kind that policyTypes does not name"
    for rule in spec.get("ingress", ()):
        for port in rule["ports"]:
            if port["port"] not in _ports(selector, whole):
                yield f"no pod has the port {port['port']}"
        for peer in rule["from"]:
            if "namespaceSelector" not in peer and not _pods(
                    peer["podSelector"]["matchLabels"], whole):
                yield "a peer matches no pod"


def _of_monitor(spec, whole):
    services = [one for one in of_kind(whole, "Service")
                if spec["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()]
    if len(services) != 1:
        yield f"{len(services)} Services"
        return
    for endpoint in spec["endpoints"]:
        if endpoint["port"] not in {port["name"] for port in services[0]["spec"]["ports"]}:
            yield f"no port {endpoint['port']}"


def _of_binding(one, whole):
    role = one["roleRef"]
    if role["name"] not in names_of(whole, role["kind"]):
        yield f"no {role['kind']} {role['name']}"
    for subject in one["subjects"]:
        if (subject["kind"], subject["namespace"]) != ("ServiceAccount", "penstock") \
                or subject["name"] not in names_of(whole, "ServiceAccount"):
            yield f"no account {subject}"


_CHECKS = {"Service": _of_service, "PodDisruptionBudget": _of_budget,
           "NetworkPolicy": _of_policy, "ServiceMonitor": _of_monitor}
