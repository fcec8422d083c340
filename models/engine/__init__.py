"""How a method runs: its declaration (Card, Method), its job, the events it yields and the traces they fold into.

What a method imports stands here; the parts are method.py, events.py and statistics.py.
"""

from models.engine.events import Close, Emit, Event, Open
from models.engine.method import (
    GRADES,
    Card,
    Job,
    Method,
    Options,
    Result,
    Turn,
    atlas,
    find,
    follow,
    offered,
    prepare,
    run,
    twin,
)

__all__ = ["Card", "Close", "Emit", "Event", "GRADES", "Job", "Method", "Open", "Options", "Result", "Turn", "atlas",
           "find", "follow", "offered", "prepare", "run", "twin"]
