"""The first stage: who may send, and how an object becomes durable before it is acknowledged."""
