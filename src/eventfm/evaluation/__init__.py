"""Probes and protocols."""
