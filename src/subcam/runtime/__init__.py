"""The machine a run works on: devices, processes, signals, locks, files, progress, memory. It knows no image."""
