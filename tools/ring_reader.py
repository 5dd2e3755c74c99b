"""Example reader of the shared-memory ring in Python: one line a result.

edgeseg live zoo:edge-s --source 0 --ring planner &
python tools/ring_reader.py planner --dead-ms 200
"""

from __future__ import annotations

import argparse

from edgeseg.core.clock import now_ns, sleep_ms
from edgeseg.sinks.ring_reader import RingReader


def main() -> None:
    """Print results until the writer ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--camera", type=int, default=0)
    parser.add_argument("--dead-ms", type=float, default=200.0, help="a mask older than this is not used")
    options = parser.parse_args()
    ring = RingReader(options.name, dead_ms=options.dead_ms)
    last = None
    while not ring.over:
        result = ring.newest(options.camera)
        if result is not None and (result.number, result.state) != last:
            last = (result.number, result.state)
            age_ms = (now_ns() - result.t_capture_ns) / 1e6
            share = "" if result.mask_hw is None else f", {(result.mask_hw == 0).mean():.1%} {ring.class_names[0]}"
            print(f"frame {result.frame_id} {result.state.value} {age_ms:.1f} ms {result.reason}{share}", flush=True)
        sleep_ms(1)


if __name__ == "__main__":
    main()
