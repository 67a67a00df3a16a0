"""Pictures of a dataset."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mbutils.report import plots


@pytest.mark.parametrize("name", ["daisy", "Cherry_(including_sour)___Powdery_mildew", "a class of many words\n98 %"])
@pytest.mark.parametrize("columns", [6, 8, 10])
def test_titles_of_a_grid_of_images_do_not_overlap(name, columns):
    figure = plots.image_grid(np.zeros((2 * columns, 8, 8, 3), np.uint8), [name] * 2 * columns, columns)
    figure.draw_without_rendering()
    boxes = np.array([ax.title.get_window_extent().extents for ax in figure.axes]).reshape(2, columns, 4)
    plt.close(figure)
    assert (boxes[:, 1:, 0] > boxes[:, :-1, 2]).all()  # begins right of where its neighbour ends
