"""A trial with a known truth, written as BIDS: head, scanner, physiology, scales, and what was planted."""
