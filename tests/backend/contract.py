"""The contract of design.md section 6 that every runner keeps. Subclass it and give `runner()`.

The runner takes [1, H, W, 3] frames of `spec.frame_size` and gives masks that differ from frame to frame.
"""

import threading
import tracemalloc

import numpy as np
import pytest

from edgeseg.core.errors import RequestError
from edgeseg.core.types import Runner, Ticket


class RunnerContract:
    def runner(self) -> Runner:
        raise NotImplementedError

    def pictures(self, runner, n):
        height, width = runner.spec.frame_size
        rng = np.random.default_rng(0)
        cells = rng.integers(0, 256, (n, runner.spec.batch, height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        return cells.repeat(8, 2).repeat(8, 3)[:, :, :height, :width]

    def test_it_is_a_runner_with_a_spec_before_it_is_entered(self):
        runner = self.runner()
        assert isinstance(runner, Runner)
        assert runner.spec.backend
        assert runner.spec.precision

    def test_masks_have_the_frame_size_and_known_classes(self):
        with self.runner() as runner:
            picture = self.pictures(runner, 1)[0]
            with runner.infer(picture) as output:
                assert output.mask_nhw.shape == (runner.spec.batch, *runner.spec.frame_size)
                assert output.mask_nhw.dtype == np.uint8
                assert output.mask_nhw.max() < len(runner.spec.classes)
                assert output.times.engine_ns > 0
                if runner.spec.confidence:
                    assert output.confidence_nhw.shape == output.mask_nhw.shape
                else:
                    assert output.confidence_nhw is None

    def test_infer_equals_submit_then_collect(self):
        with self.runner() as runner:
            for picture in self.pictures(runner, 3):
                with runner.infer(picture) as one, runner.collect(runner.submit(picture)) as two:
                    assert (one.mask_nhw == two.mask_nhw).all()

    def test_a_leased_buffer_is_never_overwritten(self):
        with self.runner() as runner:
            pictures = self.pictures(runner, runner.free_outputs)
            leased, copies = [], []
            for picture in pictures:
                leased.append(runner.infer(picture))
                copies.append(leased[-1].mask_nhw.copy())
            assert len({copy.tobytes() for copy in copies}) > 1
            for output, copy in zip(leased, copies, strict=True):
                assert (output.mask_nhw == copy).all()
            leased[0].release()
            with runner.infer(pictures[-1]):
                for output, copy in zip(leased[1:], copies[1:], strict=True):
                    assert (output.mask_nhw == copy).all()

    def test_an_exhausted_ring_is_refused_and_recovers(self):
        with self.runner() as runner:
            picture = self.pictures(runner, 1)[0]
            total = runner.free_outputs
            leased = [runner.infer(picture) for _ in range(total)]
            assert runner.free_outputs == 0
            with pytest.raises(BufferError, match="leased out"):
                runner.submit(picture)
            leased[0].release()
            leased[0].release()
            assert runner.free_outputs == 1
            runner.infer(picture).release()
            for output in leased:
                output.release()
            assert runner.free_outputs == total

    def test_buffers_may_be_released_by_another_thread(self):
        with self.runner() as runner:
            output = runner.infer(self.pictures(runner, 1)[0])
            free = runner.free_outputs
            sink = threading.Thread(target=output.release)
            sink.start()
            sink.join()
            assert runner.free_outputs == free + 1

    def test_a_frame_of_another_size_is_refused_by_name(self):
        with self.runner() as runner:
            height, width = runner.spec.frame_size
            wrong = np.zeros((runner.spec.batch, height + 1, width, 3), np.uint8)
            with pytest.raises(RequestError, match=f"{height + 1}.*{height}x{width}"):
                runner.submit(wrong)
            with pytest.raises(RequestError, match="float32"):
                runner.submit(np.zeros((runner.spec.batch, height, width, 3), np.float32))
            assert runner.free_outputs > 0

    def test_another_thread_is_refused(self):
        errors = []
        with self.runner() as runner:
            picture = self.pictures(runner, 1)[0]

            def use():
                try:
                    runner.submit(picture)
                except RequestError as error:
                    errors.append(error)

            thread = threading.Thread(target=use, name="stranger")
            thread.start()
            thread.join()
        assert "stranger" in str(errors[0])

    def test_it_is_refused_outside_its_with_block(self):
        runner = self.runner()
        picture = self.pictures(runner, 1)[0]
        with pytest.raises(RequestError, match="not open"):
            runner.submit(picture)
        with runner:
            runner.infer(picture).release()
        with pytest.raises(RequestError, match="not open"):
            runner.submit(picture)

    def test_it_can_be_entered_again(self):
        runner = self.runner()
        picture = self.pictures(runner, 1)[0]
        masks = []
        for _ in range(2):
            with runner, runner.infer(picture) as output:
                masks.append(output.mask_nhw.copy())
        assert (masks[0] == masks[1]).all()

    def test_frames_decoded_into_the_input_view_are_the_same_frames(self):
        with self.runner() as runner:
            for picture in self.pictures(runner, 4):
                view = runner.input_view()
                view[:] = picture
                with runner.infer(view) as direct, runner.infer(picture) as copied:
                    assert (direct.mask_nhw == copied.mask_nhw).all()

    def test_the_callers_frame_may_be_reused_at_once(self):
        with self.runner() as runner:
            first, second = self.pictures(runner, 2)
            with runner.infer(first) as output:
                expected = output.mask_nhw.copy()
            scratch = first.copy()
            ticket = runner.submit(scratch)
            scratch[:] = second
            with runner.collect(ticket) as output:
                assert (output.mask_nhw == expected).all()

    def test_more_submissions_than_depth_wait_and_keep_their_order(self):
        with self.runner() as runner:
            pictures = self.pictures(runner, runner.spec.depth + 2)
            expected = []
            for picture in pictures:
                with runner.infer(picture) as output:
                    expected.append(output.mask_nhw.copy())
            tickets = [runner.submit(picture) for picture in pictures]
            for ticket, mask in zip(tickets, expected, strict=True):
                with runner.collect(ticket) as output:
                    assert (output.mask_nhw == mask).all()

    def test_tickets_are_collected_once_and_in_order(self):
        with self.runner() as runner:
            first, second = (runner.submit(picture) for picture in self.pictures(runner, 2))
            with pytest.raises(RequestError, match="order"):
                runner.collect(second)
            runner.collect(first).release()
            runner.collect(second).release()
            for ticket in (first, Ticket(99)):
                with pytest.raises(RequestError, match="once"):
                    runner.collect(ticket)

    def test_it_may_be_left_with_work_in_flight(self):
        runner = self.runner()
        with runner:
            picture = self.pictures(runner, 1)[0]
            expected = runner.infer(picture).mask_nhw.copy()
        with runner:
            free = runner.free_outputs
            runner.submit(picture)
        with runner:  # nothing of it is left: all buffers are free, and the answer is the old one
            assert runner.free_outputs == free
            assert (runner.infer(picture).mask_nhw == expected).all()

    def test_strided_frames_are_taken(self):
        with self.runner() as runner:
            picture = self.pictures(runner, 1)[0]
            with runner.infer(picture[:, :, ::-1]) as one, runner.infer(picture[:, :, ::-1].copy()) as two:
                assert (one.mask_nhw == two.mask_nhw).all()

    def test_nothing_is_allocated_in_the_loop(self):
        grown, peaks, calls = [], [], 100
        with self.runner() as runner:
            picture = self.pictures(runner, 1)[0]
            tracemalloc.start()
            try:
                for _ in range(3):  # what leaks grows in every round; what a binding keeps for a while does not
                    tracemalloc.reset_peak()
                    before, _ = tracemalloc.get_traced_memory()
                    for _ in range(calls):
                        runner.infer(picture).release()
                    after, peak = tracemalloc.get_traced_memory()
                    grown.append(after - before)
                    peaks.append(peak - before)
            finally:
                tracemalloc.stop()
        assert min(grown) < 40 * calls, grown
        assert min(peaks) < picture.nbytes // 4, "a frame or mask was allocated"
