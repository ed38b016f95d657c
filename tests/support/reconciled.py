"""The books of gateways after a fault: ledger, decision log and metrics tell the same."""

import time

from penstock.serving.tenants.reconcile import reconcile
from penstock.serving.tenants.store import open_store


def differences(url, decisions=(), metrics=()):
    """Each difference in one line, of the ledger at a URL."""
    store = open_store(url)
    try:
        return reconcile(store, time.time(), decisions, metrics).differences
    finally:
        store.close()
