"""The sections `kubernetes` of a group of replicas and of the fleet: workloads on a cluster."""

from typing import Annotated, Any, Literal

from pydantic import Field

from penstock.fleet.fields import Count, Name, Section, described

ObjectName = Annotated[str, Field(
    min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
GroupName = Annotated[str, Field(
    min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
LabelKey = Annotated[str, Field(max_length=317, pattern=r"^([a-z0-9][-a-z0-9.]*/)?"
                                                        r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*"
                                                         r"[A-Za-z0-9])?)?$")]


class AdoptSection(Section):
    """An existing workload whose replicas are the group's: by its name, or by its labels."""

    kind: Literal["Deployment", "LeaderWorkerSet"] = described(
        "Kind of the workload.", "LeaderWorkerSet", default="Deployment")
    name: ObjectName | None = described("Name of the workload.", "vllm-llama")
    labels: dict[LabelKey, LabelValue] | None = described(
        "Labels that one workload has and no other one of the namespace.", {"app": "vllm-llama"})
    port: PortNumber = described("Port of the engines, for `penstock endpoint-picker --pods`.",
                                 8000, default=8000)


class CreateSection(Section):
    """A workload that `penstock controller` creates: the engine's arguments come from the group's
    variant."""

    image: Text = described("Image of the engine.", "vllm/vllm-openai:v0.19.0", default=...)
    model: Text = described(
        "The engine's argument for the model: a repository, or a folder in the image or a volume.",
        "meta-llama/Llama-3.1-8B-Instruct", default=...)
    port: PortNumber = described("Port of the engine.", 8000, default=8000)
    pods: Count = described(
        "Pods of one replica, each on a machine of its own; more than one makes a LeaderWorkerSet.",
        2, default=1)
    resource: LabelKey = described("Resource name of the accelerators.", "amd.com/gpu",
                                   default="nvidia.com/gpu")
    arguments: list[Text] = described(
        "Arguments of the engine, which replace Penstock's of the same flag.",
        ["--enable-prefix-caching"], default=[])
    node_selector: dict[LabelKey, LabelValue] = described(
        "Labels of the machines.", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, default={})
    secrets: list[ObjectName] = described(
        "Names of Secrets whose entries become environment variables.", ["hf-token"], default=[])
    template: dict[str, Any] = described(
        "Parts of a pod template, which replace those that Penstock writes; lists are replaced "
        "as a whole, containers are merged by their name.",
        {"spec": {"tolerations": [{"operator": "Exists"}]}}, default={})


Act = Literal["scale", "publish", "advise"]
_ACT = ("Who changes the number of replicas. scale: Penstock; publish: your HPA or KEDA, which "
        "reads Penstock's number; advise: nobody, Penstock only says its number.")


class KubernetesSection(Section):
    """How the group runs on a Kubernetes cluster (`penstock controller`)."""

    name: GroupName | None = described(
        "Name of the group in the names of its objects, behind the fleet's; left out, the group's "
        "number.", "h100")
    act: Act = described(_ACT, "publish", default="scale")
    adopt: AdoptSection | None = described("An existing workload.", {"name": "vllm-llama"})
    create: CreateSection | None = described("A workload that Penstock creates.", {
        "image": "vllm/vllm-openai:v0.19.0", "model": "meta-llama/Llama-3.1-8B-Instruct"})


class UsualKubernetesSection(Section):
    """How groups run on a cluster that state no `kubernetes` of their own, such as those that
    `penstock controller` plans."""

    model: Name | None = described("Model of the groups; left out, any.", "llama-3.1-8b")
    accelerator: Name | None = described("Accelerator of the groups; left out, any.", "h100-80gb")
    act: Act = described(_ACT, "publish", default="scale")
    create: CreateSection = described("The workload that Penstock creates.", {
        "image": "vllm/vllm-openai:v0.19.0", "model": "meta-llama/Llama-3.1-8B-Instruct"},
        default=...)
