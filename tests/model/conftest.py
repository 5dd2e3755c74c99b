"""One thread: the networks of these tests are too small for two, which would only wait for each other."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
