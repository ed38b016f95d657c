"""Fleets on a Kubernetes cluster: what there is, what there should be, and the steps between."""
