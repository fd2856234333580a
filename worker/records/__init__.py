"""The ledger: its tables, claims on its rows, and what people ask it."""
