"""The environment of a run: devices, processes, signals, progress on the terminal, profiler."""
