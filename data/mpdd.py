"""Write meta.json for MPDD: six classes of metal parts.

It is linked from https://github.com/stepanje/MPDD (licence: see there). Expected, as in MVTec AD:

    ROOT/bracket_black/train/good/000.png
    ROOT/bracket_black/test/good/000.png
    ROOT/bracket_black/test/scratches/000.png
    ROOT/bracket_black/ground_truth/scratches/000_mask.png
    ROOT/bracket_brown, bracket_white, connector, metal_plate, tubes    the same

ROOT may also be the folder around MPDD/.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="mpdd",
    title="MPDD",
    expected="bracket_black/test/KIND/IMAGE",
    source="https://github.com/stepanje/MPDD",
    find=partial(
        forms.class_folders,
        names=("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
    ),
    counts=(176, 282),
    folders=("MPDD",),
    signs=("bracket_black/test", "bracket_brown/test", "bracket_white/test", "metal_plate/test"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
