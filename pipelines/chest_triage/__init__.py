"""Chest triage by rules: which chest CT or frontal radiograph should be read first."""
