"""Pictures of trainings."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from mbutils.report import plots


@pytest.fixture
def record():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "image_size": [160, 160, 96, 96],
            "whole": [False, False, False, True],
            **{name: [0.1, 0.2, 0.3, 0.4] for name in ("loss", "top1", "validation_loss", "validation_top1")},
        }
    )


def marks(ax):
    return {text.xy[0]: text.get_text() for text in ax.texts}


@pytest.mark.parametrize("picture", ["history", "curves"])
def test_curves_of_a_training_say_where_its_images_change(record, picture):
    older = record.drop(columns=["image_size", "whole"])
    both = [part.assign(configuration=model, model=model, seed=0) for part, model in ((record, "a"), (older, "b"))]
    figure = plots.curves(pd.concat(both)) if picture == "curves" else plots.history(record)
    assert marks(figure.axes[0]) == {2.5: "images 160 → 96 px", 3.5: "whole images"}
    if picture == "curves":
        assert marks(figure.axes[1]) == {}
    plt.close(figure)


def test_changes_at_the_same_epoch_share_a_label(record):
    figure = plots.history(record.assign(whole=[False, False, True, True]))
    assert [marks(ax) for ax in figure.axes] == [{2.5: "images 160 → 96 px, whole images"}] * 2
    plt.close(figure)
