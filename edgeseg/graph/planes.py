"""Old name of `edgeseg.graph.phases` while its readers move."""

from edgeseg.graph.phases import EDGE as CELLS

__all__ = ["CELLS"]
