"""Accelerators, models and prices as data: every number with its source."""

from penstock.catalog.catalog import Catalog, load_catalog
from penstock.catalog.hf_config import model_from_hf_config

__all__ = ["Catalog", "load_catalog", "model_from_hf_config"]
