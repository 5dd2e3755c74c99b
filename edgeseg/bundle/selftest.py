"""The engine of a bundle as a Runner that proves itself on the golden frames before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from edgeseg.backend import get_builder
from edgeseg.bundle.contents import Bundle, Golden, rebuild_command
from edgeseg.bundle.golden import read_golden
from edgeseg.core.errors import VerifyError
from edgeseg.core.log import get_logger
from edgeseg.core.types import U8, Output, Runner, RunnerSpec, Ticket

_LOG = get_logger(__name__)


def open_runner(bundle: Bundle, *, throughput: bool = False) -> Runner:
    """The engine of a verified bundle; nothing touches the device before it is entered.

    Args:
        bundle: What `open_bundle` gave.
        throughput: Rather more frames a second than each one soon: for files.

    Raises:
        UnavailableError: The backend is not installed.
    """
    manifest = bundle.manifest
    builder = get_builder(manifest.engine.backend)
    return ProvenRunner(bundle, builder.open(bundle.engine_file, manifest.spec, throughput=throughput))


def golden_agreement(runner: Runner, golden: Sequence[Golden]) -> float:
    """Share of golden pixels, 0 to 1, on which an entered runner gives the golden class."""
    spec = runner.spec
    equal = total = 0
    for item in golden:
        frames = np.ascontiguousarray(np.broadcast_to(item.frame, (spec.batch, *item.frame.shape)))
        # outside of a region of interest there is nothing to agree on
        seen = item.mask_hw != spec.classes.ignore_id
        with runner.infer(frames) as output:
            equal += int(np.count_nonzero((output.mask_nhw == item.mask_hw) & seen))
            total += spec.batch * int(np.count_nonzero(seen))
    return equal / max(total, 1)


class ProvenRunner:
    """A runner whose `__enter__` runs the golden frames and refuses an engine that disagrees with their masks.

    Args:
        bundle: Where the golden frames and the required agreement come from.
        runner: The engine.
    """

    def __init__(self, bundle: Bundle, runner: Runner) -> None:
        self._bundle = bundle
        self._runner = runner
        self._entered = 0

    def __enter__(self) -> Runner:
        """Enter the engine and run the golden frames; entering again inside only nests.

        Raises:
            VerifyError: The engine disagrees with the golden masks.
        """
        self._runner.__enter__()
        try:
            if self._entered == 0:
                self._prove()
        except BaseException as error:
            self._runner.__exit__(type(error), error, error.__traceback__)
            raise
        self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        self._runner.__exit__(kind, error, trace)

    @property
    def spec(self) -> RunnerSpec:
        """What the engine takes and gives."""
        return self._runner.spec

    @property
    def free_outputs(self) -> int:
        """Output buffers that are not leased out."""
        return self._runner.free_outputs

    def input_view(self) -> U8:
        """Memory of the next submission."""
        return self._runner.input_view()

    def submit(self, frames_nhwc: U8, *, lent: bool = False) -> Ticket:
        """Start one batch."""
        return self._runner.submit(frames_nhwc, lent=lent)

    def collect(self, ticket: Ticket) -> Output:
        """Wait for a batch."""
        return self._runner.collect(ticket)

    def infer(self, frames_nhwc: U8) -> Output:
        """Run one batch."""
        return self._runner.infer(frames_nhwc)

    def _prove(self) -> None:
        manifest = self._bundle.manifest
        found = golden_agreement(self._runner, read_golden(self._bundle))
        _LOG.debug("%s: self-test agreement %.5f", manifest.name, found)
        if found < manifest.agreement.minimum:
            raise VerifyError(
                "the engine failed its self-test on the golden frames",
                value=f"agreement: {found:.5f}",
                allowed=f"at least {manifest.agreement.minimum:g}",
                fix=rebuild_command(self._bundle.path, self._bundle.trusted_by),
            )
