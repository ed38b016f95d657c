"""The section `start` of the fleet file: the parts of a replica's start."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from penstock.fleet.fields import (
    NAME_TAG,
    SETTINGS_TAG,
    FilePath,
    GbPerS,
    NotNegative,
    Section,
    described,
)


class StartWeightsSection(Section):
    """How the weights of a replica reach its accelerators, each of which loads its own share."""

    source: Literal["remote", "disk", "host"] = described(
        "Where the weights lie when a start begins. remote: in a store behind the network; disk: "
        "on a disk of the machine; host: in its memory.", "disk", default=...)
    gb_per_s: GbPerS | None = described(
        "Rate at which each accelerator gets its share of the weights, 10^9 bytes per second.", 2)
    loading: FilePath | None = described(
        "Loading model that `penstock profile fit loading` wrote, in the place of gb_per_s; of "
        "disk and host.", "loading.yaml")


class StartSpreadsSection(Section):
    """Relative standard deviations of the parts of a start."""

    provision: NotNegative = described("Of provisioning.", 0.4, default=0.0)
    image: NotNegative = described("Of the image.", 0.2, default=0.0)
    weights: NotNegative = described("Of the weights.", 0.1, default=0.0)
    warm_up: NotNegative = described("Of the warm-up.", 0.1, default=0.0)


def _branch(value: Any) -> str:
    return SETTINGS_TAG if isinstance(value, dict | StartSpreadsSection) else NAME_TAG


SpreadChoice = Annotated[
    Annotated[NotNegative, Tag(NAME_TAG)] | Annotated[StartSpreadsSection, Tag(SETTINGS_TAG)],
    Discriminator(_branch)]


class StartSection(Section):
    """The parts of a replica's start, one after the other, in the place of `start_s`.

    A part that replicas leave out is that of `scaling.start`. All four must be stated; 0 means that
    a part takes no time.
    """

    provision_s: NotNegative | None = described(
        "Time until a machine with free accelerators is there, seconds.", 60)
    image_s: NotNegative | None = described(
        "Time to fetch and start the engine's image, seconds.", 25)
    weights: StartWeightsSection | None = described(
        "How the weights reach the accelerators.", {"source": "disk", "gb_per_s": 2})
    warm_up_s: NotNegative | None = described(
        "Time from the loaded weights to the first request: compilation, captured graphs, first "
        "steps, seconds.", 15)
    spread: SpreadChoice | None = described(
        "Relative standard deviation of every part (each lognormal and drawn by itself), or of "
        "each; left out, 0.", 0.2, {"provision": 0.4})
