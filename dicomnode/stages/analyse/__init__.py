"""The stage ``analyse``: a worker per device, its killable child, and one analysis by itself."""
