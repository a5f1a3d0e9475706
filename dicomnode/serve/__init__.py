"""The running node: starts the stages as processes, watches, restarts and drains them."""

from dicomnode.serve.supervisor import Supervisor

__all__ = ["Supervisor"]
