"""Write meta.json for DTD-Synthetic: twelve textures of the set DTD with defects drawn into them.

It lies at https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1 (licence: see there).
Expected, as in MVTec AD:

    ROOT/Blotchy_099/train/good/000.png
    ROOT/Blotchy_099/test/good/000.png
    ROOT/Blotchy_099/test/bad/000.png
    ROOT/Blotchy_099/ground_truth/bad/000_mask.png
    ROOT/Fibrous_183, Marbled_078 ...     the same for each texture

ROOT may also be the folder around DTD-Synthetic/.
"""

from functools import partial

import forms
import layouts

TEXTURES = (
    *("Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037"),
    *("Stratified_154", "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127"),
)

LAYOUT = layouts.Layout(
    name="dtd_synthetic",
    title="DTD-Synthetic",
    expected="Blotchy_099/test/KIND/IMAGE",
    source="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
    find=partial(forms.class_folders, names=TEXTURES),
    counts=(357, 947),
    folders=("DTD-Synthetic", "DTD"),
    signs=TEXTURES,
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
