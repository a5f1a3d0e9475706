"""DICOM associations as server and client, the guard around their sockets, TLS and webhooks.

Knows no rows, no files beyond the path that it is told to write or to send, and no rules: what may
come in, and what becomes of it, is decided by the `Door` that the caller hands in.
"""
