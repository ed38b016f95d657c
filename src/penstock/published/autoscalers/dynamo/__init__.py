"""NVIDIA Dynamo's planner, for engines that do prefill and decode."""
