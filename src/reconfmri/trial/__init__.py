"""Trial conduct: allocation, blinding, intercurrent events. No participant-level step imports it."""
