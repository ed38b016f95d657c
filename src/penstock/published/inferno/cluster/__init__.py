"""Inferno's control loop on a Kubernetes cluster: collect, decide, actuate, emulate load."""
