"""A fleet file that runs in a moment, for tests of what reads one."""

FLEET = """\
name: small
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 2, itl_s: 0.05}}
  - {name: batch, priority: 3, slo: {e2e_s: 300}}
traffic:
  - mix: {chat: 0.6, batch: 0.4}
    lengths: {prompt: {fixed: 400}, output: {fixed: 40}}
    rate_per_s: 5
    num_requests: 60
replicas: [{count: 1}]
policies: {schedule: penstock, route: least_loaded}
"""
