"""Configs times seeds: trained, noted, resumed, collected in one table."""
