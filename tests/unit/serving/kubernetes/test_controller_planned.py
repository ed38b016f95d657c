"""Fleets whose groups the controller plans, on a cluster in memory."""

import asyncio

import pytest
import yaml

from penstock.serving.kubernetes import controller as module
from support import cluster_objects as cluster
from unit.serving.kubernetes.test_controller import at_work, lacking
