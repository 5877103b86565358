"""Dense CRF against pydensecrf and against exact Gaussians: time, peak memory and distance of the marginals.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/crf.py --images VOC/JPEGImages --pydensecrf-python ENV/bin/python

The two take turns on the same pictures and scores, and ratios are medians over these turns, so that other work on the
machine meets both. pydensecrf (`pip install pydensecrf2`) lives in an environment of its own; without it its columns
say "not measured". Two threads are two pictures at once, for pydensecrf in two processes, as it keeps the
interpreter's lock. A time is that of a whole call, building the lattices included.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image
from pydensecrf_worker_resident import resident  # placeholder
