"""`python -m model.space.greedy_child FILE THREADS`: one run of picsl-greedy in a process of its own.

Greedy holds Python's lock as long as it runs, prints from C and C++, and may crash; none of that reaches the
caller. FILE is an .npz with `fixed` and `moving` (i, j, k), `fixed_affine` and `moving_affine`; `found`, the
4×4 matrix from RAS+ mm of the fixed volume to those of the moving one, is written to FILE.npy.
"""

import sys
from pathlib import Path

import numpy as np
import picsl_greedy

from model.space.itk import to_itk

COMMAND = "-i fixed moving -o found -ia-identity -a -dof 6 -m NMI -n 100x50x5 -seed 1"


def main() -> None:
    """Register, from where the volumes lie."""
    path, threads = Path(sys.argv[1]), int(sys.argv[2])
    with np.load(path, allow_pickle=False) as file:
        fixed, moving = (to_itk(file[name], file[f"{name}_affine"]) for name in ("fixed", "moving"))
    greedy = picsl_greedy.Greedy3D()
    greedy.execute(f"{COMMAND} -threads {threads}", fixed=fixed, moving=moving, found=None)
    np.save(path.with_suffix(".npy"), greedy["found"])


if __name__ == "__main__":
    main()
