"""The cloud's runtime: one verifier service for one robot or many."""
