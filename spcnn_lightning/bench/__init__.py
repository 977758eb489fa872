"""Measuring: what a network costs on each engine, layer by layer, and how exact the result is.

`spcnn_lightning.bench.measure.run_bench` measures a `spcnn_lightning.bench.workload.Workload`.
Nothing is imported here, so that the processes in which memory is measured stay small.
"""
