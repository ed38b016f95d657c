"""Who may ask, how much, and what it cost: keys, rates, budgets, and a ledger that lasts."""
