"""The command line ``dicomnode``: what an admin, a script and a container's health check call."""

import gc


def main() -> None:
    """Run the command that the arguments name; exit status 0, 1, 2 or 3 (see `output`)."""
    # Nothing that is imported is garbage: looking for it costs a tenth of the start.
    gc.disable()
    # The groups of commands load what they show; ``import dicomnode.cli`` alone stays cheap.
    from dicomnode.cli.app import app  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    app()
