"""A command that dies with the demonstration, also when that is killed.

``python -m dicomnode.demo.bound PARENT_PID PROGRAM ARGUMENT…`` becomes the program; what it asked
the kernel for stays.
"""

from __future__ import annotations

import os
import sys

from dicomnode.stages.kernel import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted
