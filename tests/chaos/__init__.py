"""Faults at random over engine, Hub and app, and what must hold. Run: python -m tests.chaos --minutes N --seed S"""
