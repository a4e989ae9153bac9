"""A table's description as text and pictures: what they show is what was counted."""

from pathlib import Path

import numpy as np
import pandas as pd

from fl_research.data.description import describe
from fl_research.reports import description_plots, description_text
from fl_research.reports.plot_base import style


def table() -> pd.DataFrame:
    """Clients of 1, 2 and 5 rows."""
    return pd.DataFrame(
        {
            "who": ["Ann Example"] + ["bob"] * 2 + ["cat"] * 5,
            "paid": [1.5, None, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5],
            "pi|pe": ["a\nb", "b", "a\nb", "b", "b", "b", "b", "b"],
            "left": ["no", "yes", "no", "no", "no", "no", "yes", "no"],
        }
    )


def test_the_text_says_what_was_counted_and_names_no_client() -> None:
    description = describe(table(), client_column="who", label_column="left")
    text = description_text.markdown(description, source="people.csv", notes=("lines read: 9",))
    assert text.startswith("# people.csv\n\n8 rows, 4 columns; ")
    assert "no epsilon covers it" in text and "- lines read: 9" in text
    assert "3 clients (`who`), 2.7 rows each on average." in text
    assert "| 1 (12.5 %) " in text and "1.5 to 7.5, median 4.5" in text
    assert "pi\\|pe" in text and "a b (2)" in text
    assert "Ann" not in text
    assert "| no    | 6    | 75.0 % |" in text
    assert "Skew over clients" in text


def test_a_number_and_no_clients() -> None:
    wide = pd.DataFrame({"spend": np.linspace(0, 1, 300), "kind": ["a", "b"] * 150})
    text = description_text.markdown(describe(wide, label_column="spend"), source="s")
    assert "`spend`, a number." in text and "Clients" not in text


def test_the_pictures_draw_the_numbers(tmp_path: Path) -> None:
    description = describe(table(), client_column="who", label_column="left")
    with style():
        figures = description_plots.figures(description)
    assert set(figures) == {"columns.png", "clients.png", "label.png"}
    widths = [bar.get_width() for bar in figures["columns.png"].axes[0].patches]
    assert widths == [0, 12.5, 0, 0]
    heights = [bar.get_height() for bar in figures["clients.png"].axes[0].patches]
    assert heights == [1, 1, 1]
    classes, distances = figures["label.png"].axes
    assert [bar.get_width() for bar in classes.patches] == [6, 2]
    assert np.allclose(distances.lines[0].get_xdata(), description.label.distances)
    files = description_plots.draw(description, tmp_path)
    assert all(file.stat().st_size > 5_000 for file in files)


def test_pictures_without_clients_and_label() -> None:
    with style():
        assert set(description_plots.figures(describe(table()))) == {"columns.png"}
        one_row_each = table().drop_duplicates("who")
        figures = description_plots.figures(
            describe(one_row_each, client_column="who", label_column="left")
        )
    assert len(figures["label.png"].axes) == 1
