"""Accelerators, models and prices as data: every number with its source."""

from penstock.catalog.catalog import Catalog, is_config_path, load_catalog
from penstock.catalog.hf_config import model_from_hf_config

__all__ = ["Catalog", "is_config_path", "load_catalog", "model_from_hf_config"]
