"""The contract of tasks beside the class itself: its checks, optional parts, and functions without PyTorch."""
