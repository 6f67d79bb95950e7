"""The error-aware mixture of star clusters and a field: likelihood, EM, seeding (torch only)."""
