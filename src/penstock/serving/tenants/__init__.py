"""Tenants: keys, rate limits, budgets, and a durable ledger."""
