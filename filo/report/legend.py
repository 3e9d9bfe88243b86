"""How the pictures of a report are to be read: colours, outlines, boxes."""

import numpy as np

from filo.charts import colour_bar
from filo.markup import Markup, tag
from filo.plots import NATURAL, Scale, heatmap
from filo.report.pictures import Album
from filo.report.run import Run


def legend(run: Run, scale: Scale, album: Album) -> Markup:
    """Show the colour bar of all pictures and say what else is drawn, or that there are none."""
    if not album.has_pictures:
        keeps = "test.py --report" if run.is_test else "filo.predict without --no_pictures"
        none = f"This run kept no pictures, so none are shown; {keeps} keeps them."
        return tag("section", tag("h2", "Pictures"), tag("p", none), class_="legend")
    ends = [tag("span", f"{value:.3g}") for value in (scale.low, (scale.low + scale.high) / 2, scale.high)]
    bar = tag("div", colour_bar(_colours()), tag("div", ends, class_="ends"), class_="scale")
    words = tag("p", " ".join([*_about_pictures(scale), *_about_others(album), *_about_marks(run, album)]))
    return tag("section", tag("h2", "How to read the pictures"), bar, words, class_="legend")


def _about_pictures(scale: Scale) -> list[str]:
    return [
        "Each picture is the image, and the image again under its anomaly map: the more anomalous a place,",
        "the stronger and brighter its colour. One scale holds for all pictures, from",
        f"{scale.low:.3g} to {scale.high:.3g}: {scale.origin}.",
    ]


def _about_others(album: Album) -> list[str]:
    return [
        f"The next map is that of {other.name}, from {other.scale.low:.3g} to {other.scale.high:.3g}; its "
        "score stands below ours, and scores of different methods cannot be compared."
        for other in album.others
    ]


def _about_marks(run: Run, album: Album) -> list[str]:
    """Say what is drawn or written beside the map, where any image has it."""
    words = []
    tallies = run.classes.values()
    if any(tally.has_outlines for tally in tallies):
        words.append("White outlines are the annotated defects.")
    if any(tally.has_boxes for tally in tallies):
        words.append("Blue boxes are the detector's.")
    if any(tally.cosines for tally in tallies):
        words.append("Below an image stand the descriptions that fit it best, with their cosine;")
        words.append("those with a coloured bar fit better than what is normal.")
    if len(album.wanted) < album.asked:
        words.append(
            f"To keep this page small, only the {len(album.wanted):,} highest scores have a picture."
        )
    return words


def _colours(steps: int = 48) -> list[str]:
    row = heatmap(np.linspace(0, 1, steps)[None], NATURAL)[0]
    return ["#" + bytes(pixel).hex() for pixel in row]
