"""Bayesian evidence: closed forms wherever they exist, MCMC only where they do not (METHODS C)."""
