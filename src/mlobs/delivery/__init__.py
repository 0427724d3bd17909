"""Delivery: what each backend is sent, what it answered, and what comes next."""
