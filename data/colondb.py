"""Write meta.json for CVC-ColonDB: one class, "colon", a polyp in every picture of a colonoscope.

It lies at https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579 (licence: see there). Expected:

    ROOT/CVC-ColonDB/images/1.png
    ROOT/CVC-ColonDB/masks/1.png

ROOT may also be CVC-ColonDB/ itself, or lie around the folder that holds all sets of polyps. There are no
normal images, so only metrics per pixel are defined.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="colondb",
    title="CVC-ColonDB",
    expected="CVC-ColonDB/images/IMAGE",
    source="https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579",
    find=partial(forms.image_and_mask, cls_name="colon", kind="polyp"),
    counts=(0, 380),
    folders=forms.polyp_folders("CVC-ColonDB"),
    signs=("CVC-ColonDB",),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
