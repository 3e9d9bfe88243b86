"""Two small made-up anomaly data sets, drawn by a program, in the layouts of MVTec AD and VisA.

They need no download and no licence, and the scripts for the real data sets run on them unchanged.

    python -m filo.synthetic --out data/demo
"""

from filo.synthetic.classes import DATASETS, ClassSpec
from filo.synthetic.folders import make_demo
from filo.synthetic.picture import Picture, draw_picture

__all__ = ["DATASETS", "ClassSpec", "Picture", "draw_picture", "make_demo"]
