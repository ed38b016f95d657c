"""Command lines of engines that Penstock starts."""

from penstock.core.configuration import Configuration
from penstock.fleet.load import load_fleet, parse_fleet
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import emulate_command
from penstock.serving.deployments.deployments import Deployment

SCALED = """\
name: scaled
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: 60}]
replicas: [{count: 2, min_replicas: 2, max_replicas: 4, start_s: 5, engine: emulated,
            spot: {reclaims_per_hour: 1, notice_s: 5}}]
policies: {scale: {name: hpa, target: 2}}
"""


def test_the_file_of_one_emulated_replica_has_no_bounds_of_its_group(tmp_path):
    fleet = parse_fleet(SCALED)
    one = Deployment("replica-0", "llama-3-8b", "emulate", 0.0, 0.0,
                     configuration=Configuration(fleet.replicas[0].parallelism, "bf16", "bf16"))
    found = emulate_command(Cluster(tmp_path, fleet), one, 9, fleet.replicas[0])
    own = load_fleet(next(word for word in found.argv if word.endswith("fleet.yaml")))
    assert (own.replicas[0].count, own.replicas[0].min_replicas, own.scales) == (1, None, False)
