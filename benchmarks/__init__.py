"""Side-by-side measurements, each one command: python -m benchmarks NAME [--device cpu|cuda] [--json] [--quick].

A benchmark is one file here with `run(device, quick) -> rows`; a row comes from `timing.row`.
"""
