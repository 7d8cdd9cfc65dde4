"""How a run executes: devices, processes, launchers, gradient checkpointing."""
