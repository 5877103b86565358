"""Runs pydensecrf in an environment of its own for `crf.py`; needs NumPy and pydensecrf, nothing of subcam.

Reads lines of JSON {"path", "settings", "memory"}; the file holds `image` [h, w, 3] and `scores` [sets, cls, h, w],
the settings are those of subcam's `CRFSettings`.
Answers each with {"seconds", "cpu_seconds", "peak_mib"} and leaves the marginals beside the file, as `.marginals.npy`.
"""

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as densecrf  # type: ignore[import-not-found]


def infer(image: np.ndarray, scores: np.ndarray, settings: dict) -> np.ndarray:
    """As psa's crf_inference: unary energies from the scores, its two pairwise terms."""
    classes, height, width = scores.shape
    crf = densecrf.DenseCRF2D(width, height, classes)
    energy = -np.log(np.clip(scores, 1e-5, 1)).reshape(classes, -1)
    crf.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    crf.addPairwiseGaussian(sxy=settings["spatial_sigma"], compat=settings["spatial_weight"])
    crf.addPairwiseBilateral(
        sxy=settings["bilateral_sigma_xy"],
        srgb=settings["bilateral_sigma_rgb"],
        rgbim=np.ascontiguousarray(image),
        compat=settings["bilateral_weight"],
    )
    return np.array(crf.inference(settings["iterations"])).reshape(classes, height, width)


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (at most so far) of this process, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        case = np.load(task["path"])
        image, scores = case["image"], case["scores"]
        before = 0.0
        if task["memory"]:
            infer(image[:16, :16], scores[0, :, :16, :16], task["settings"])
            gc.collect()
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
            before = resident_mib("VmRSS")
        start, cpu_start = time.perf_counter(), time.process_time()
        marginals = [infer(image, one, task["settings"]) for one in scores]
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        peak = resident_mib("VmHWM") - before if task["memory"] else None
        np.save(task["path"] + ".marginals.npy", np.stack(marginals))
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
