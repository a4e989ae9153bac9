"""The look of all figures, for modules beside `plots` that draw one."""

from fl_research.reports.plots import _figure as new_figure
from fl_research.reports.plots import _style as house_style

__all__ = ["house_style", "new_figure"]
