"""The only contract between models/ and visualizers/: records, their JSON, parameters, subjects and limits.

Numpy only. The records themselves are in models/trace/records.py; `from models.trace import Step, states` reads them.
"""

from models.trace.records import (
    CANVASES,
    CODE,
    LEVELS,
    OWN,
    SCHEMA,
    STATES,
    TABS,
    TRACES,
    YES,
    AttendTrace,
    Canvas,
    Chart,
    Cost,
    Distribution,
    Edges,
    Fact,
    Field,
    Heads,
    MaskTrace,
    Provenance,
    PruneTrace,
    Rows,
    SampleTrace,
    Step,
    Trace,
    TraceError,
    UnmaskTrace,
    states,
)

__all__ = [
    "AttendTrace", "CANVASES", "CODE", "Canvas", "Chart", "Cost", "Distribution", "Edges", "Fact", "Field", "Heads",
    "LEVELS", "MaskTrace", "OWN", "Provenance", "PruneTrace", "Rows", "SCHEMA", "STATES", "SampleTrace", "Step", "TABS",
    "TRACES", "Trace", "TraceError", "UnmaskTrace", "YES", "states",
]
