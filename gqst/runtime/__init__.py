"""Where a run takes place: devices, processes, signals, the terminal and the profiler."""
