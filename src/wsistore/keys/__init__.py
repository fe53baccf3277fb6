"""The site's keys: what signs its ledger, what encrypts companions, and how both come back after a loss."""
