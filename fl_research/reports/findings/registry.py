"""The findings that a report can show: each file of this folder is one, named as the finding is.

A finding's file has `TITLE`, and three functions of the finding, plain JSON: `figure(finding,
evaluation)` draws it; `lines(finding)` are lines of Markdown, none where the figure says it all;
`released(finding)` says what it was computed from, for the list of what was released without noise.
"""

from types import ModuleType

from fl_research import registry
from fl_research.reports import findings


def names() -> tuple[str, ...]:
    """Returns the name of every finding, sorted."""
    return registry.names(findings)


def load(name: str) -> ModuleType:
    """Returns the module of one finding; raises InputError if there is no such finding."""
    return registry.load(findings, "finding", name)
