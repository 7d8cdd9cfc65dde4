"""The process and its machine: signals, other processes, terminal, memory, folders, versions, sizes and times."""
