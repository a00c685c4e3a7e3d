"""open, step, sequences: batching, chunking, threads, forks and truncation never change a logit."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.runtime.harness import (
    EINPUT,
    ELIMIT,
    MAX_SEQS,
    N_CTX,
    N_PAGES,
    PAGE,
    VOCAB,
    expected_hidden,
    expected_logits,
)
from tests.runtime.model import RuntimeFailure

TOKENS = [5, 17, 17, 100, 0, 64, 3, 99, 12, 12, 7, 55, 31]


def rows_of(seq: int, tokens: list[int], flags: int = 1, start: int = 0) -> list[tuple[int, int, int, int]]:
    return [(seq, start + i, t, flags) for i, t in enumerate(tokens)]


def test_info(open_model) -> None:
    info = open_model(threads=2).info()
    assert (info.vocab_size, info.n_ctx, info.n_pages, info.threads) == (VOCAB, N_CTX, N_PAGES, 2)
    assert info.kv_bytes == N_PAGES * PAGE * 16 and info.arena_bytes == 32 + 2 * 64


def test_the_best_backend_the_host_has_is_chosen(open_model, runtime) -> None:
    assert runtime.ffi.string(open_model().info().isa) == b"wide"
    assert runtime.ffi.string(open_model(isa="scalar").info().isa) == b"scalar"


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("ubatch", [1, 3, 8])
def test_threads_and_chunks_change_nothing(open_model, threads: int, ubatch: int) -> None:
    model = open_model(threads=threads, ubatch=ubatch)
    logits = model.append(model.seq_open(), TOKENS)
    for i in range(len(TOKENS)):
        np.testing.assert_array_equal(logits[i], expected_logits(TOKENS[: i + 1]))


def test_rows_of_several_sequences_share_a_step(open_model) -> None:
    model = open_model(threads=2)
    a, b, c = (model.seq_open() for _ in range(3))
    rows = [(a, 0, 1, 0), (b, 0, 2, 1), (a, 1, 3, 3), (c, 0, 4, 2), (b, 1, 5, 1), (a, 2, 6, 1)]
    logits, hidden = model.step(rows)
    want = [expected_logits(t) for t in ([2], [1, 3], [2, 5], [1, 3, 6])]
    np.testing.assert_array_equal(logits, want)
    np.testing.assert_array_equal(hidden, [expected_hidden([1, 3]), expected_hidden([4])])
    assert [model.seq_length(s) for s in (a, b, c)] == [3, 2, 1]


@pytest.mark.parametrize("length", range(10))
def test_fork_shares_and_diverges(open_model, length: int) -> None:
    model = open_model()
    a = model.seq_open()
    model.append(a, TOKENS[:9])
    before = model.free_pages()
    b = model.seq_fork(a, length)
    assert model.free_pages() == before, "a fork itself takes no page"
    logits_b, logits_a = model.append(b, [50, 51]), model.append(a, [60])
    np.testing.assert_array_equal(logits_b[1], expected_logits([*TOKENS[:length], 50, 51]))
    np.testing.assert_array_equal(logits_a[0], expected_logits([*TOKENS[:9], 60]))
    model.seq_close(a)
    np.testing.assert_array_equal(model.append(b, [1])[0], expected_logits([*TOKENS[:length], 50, 51, 1]))


def test_forks_appending_in_one_step_copy_the_page_once_each_but_for_the_last(open_model) -> None:
    model = open_model()
    a = model.seq_open()
    model.append(a, TOKENS[:6])  # 2 pages, the second half full
    b = model.seq_fork(a, 6)
    free = model.free_pages()
    logits, _ = model.step([(a, 6, 1, 1), (b, 6, 2, 1)])
    np.testing.assert_array_equal(logits, [expected_logits([*TOKENS[:6], 1]), expected_logits([*TOKENS[:6], 2])])
    assert model.free_pages() == free - 1


def test_append_after_truncation_into_a_shared_page_leaves_the_other_alone(open_model) -> None:
    model = open_model()
    a = model.seq_open()
    model.append(a, TOKENS[:8])
    b = model.seq_fork(a, 8)
    model.seq_truncate(a, 5)
    np.testing.assert_array_equal(model.append(a, [9, 9, 9])[2], expected_logits([*TOKENS[:5], 9, 9, 9]))
    np.testing.assert_array_equal(model.append(b, [4])[0], expected_logits([*TOKENS[:8], 4]))


def test_truncate_frees_pages_and_reuses_them(open_model) -> None:
    model = open_model()
    a = model.seq_open()
    model.append(a, TOKENS)
    model.seq_truncate(a, 4)
    assert model.free_pages() == N_PAGES - 1
    np.testing.assert_array_equal(model.append(a, [8])[0], expected_logits([*TOKENS[:4], 8]))
    model.seq_truncate(a, 0)
    assert model.free_pages() == N_PAGES


def test_many_python_threads_share_a_model(open_model) -> None:
    model = open_model(threads=2)
    wrong: list[str] = []

    def work(k: int) -> None:
        for turn in range(20):
            seq = model.seq_open()
            tokens = [(k * 31 + turn + i) % VOCAB for i in range(10)]
            got = model.append(seq, tokens)[-1]
            if not np.array_equal(got, expected_logits(tokens)):
                wrong.append(f"thread {k} turn {turn}")
            model.seq_close(seq)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]  # 2 x 3 pages: never full
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert wrong == []


BAD_ROWS = {
    "token too large": ([(0, 0, VOCAB, 1)], EINPUT, "token 101 is outside"),
    "token negative": ([(0, 0, -1, 1)], EINPUT, "token -1"),
    "closed sequence": ([(1, 0, 0, 1)], EINPUT, "sequence 1 is not open"),
    "sequence negative": ([(-1, 0, 0, 1)], EINPUT, "sequence -1"),
    "sequence too large": ([(MAX_SEQS, 0, 0, 1)], EINPUT, f"sequence {MAX_SEQS}"),
    "a position skipped": ([(0, 0, 0, 1), (0, 2, 0, 1)], EINPUT, "position 2"),
    "a position repeated": ([(0, 0, 0, 1), (0, 0, 0, 1)], EINPUT, "position 0"),
    "unknown flag": ([(0, 0, 0, 4)], EINPUT, "flags 0x4"),
    "past the context": ([(0, i, 0, 0) for i in range(N_CTX + 1)], ELIMIT, "40 positions"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_refused_step_changes_nothing(open_model, case: str) -> None:
    rows, code, words = BAD_ROWS[case]
    model = open_model()
    assert model.seq_open() == 0
    with pytest.raises(RuntimeFailure, match=words) as failure:
        model.step(rows)
    assert failure.value.code == code
    assert model.seq_length(0) == 0 and model.free_pages() == N_PAGES
    np.testing.assert_array_equal(model.append(0, [3])[0], expected_logits([3]))


def test_missing_buffers_are_refused(open_model, runtime) -> None:
    model = open_model()
    model.seq_open()
    row = runtime.ffi.new("infc_row[]", [(0, 0, 0, 1)])
    null = runtime.ffi.NULL
    assert runtime.lib.infc_step(model.handle, row, 1, null, null) == EINPUT and "logits" in runtime.last_error()
    row[0].flags = 2
    assert runtime.lib.infc_step(model.handle, row, 1, null, null) == EINPUT and "hidden" in runtime.last_error()
    assert runtime.lib.infc_step(model.handle, row, 0, null, null) == EINPUT
    assert runtime.lib.infc_step(model.handle, null, 1, null, null) == EINPUT
    assert runtime.lib.infc_step(null, row, 1, null, null) == EINPUT
    row[0].flags = 0
    assert runtime.lib.infc_step(model.handle, row, 1, null, null) == 0


def test_a_full_pool_refuses_the_whole_step_and_recovers(open_model) -> None:
    model = open_model()
    long = [model.seq_open(), model.seq_open()]
    for seq in long:
        model.append(seq, [seq + 1] * N_CTX)  # 10 pages each: 4 of 24 are left
    a, b = model.seq_open(), model.seq_open()
    model.append(a, TOKENS[:6])
    f = model.seq_fork(a, 6)
    free = model.free_pages()
    assert free == 2
    with pytest.raises(RuntimeFailure, match="24 pages") as failure:  # copy on write, then one page, then one too many
        model.step([(f, 6, 1, 1), (b, 0, 2, 1), *rows_of(a, [3] * 3, start=6)])
    assert failure.value.code == ELIMIT
    assert model.free_pages() == free and [model.seq_length(s) for s in (a, b, f)] == [6, 0, 6]
    model.check_pages()
    model.seq_close(long[0])
    logits, _ = model.step([(f, 6, 1, 1), (b, 0, 2, 1), *rows_of(a, [3] * 3, start=6)])
    np.testing.assert_array_equal(logits[0], expected_logits([*TOKENS[:6], 1]))
    np.testing.assert_array_equal(logits[4], expected_logits([*TOKENS[:6], 3, 3, 3]))


def test_sequence_errors(open_model) -> None:
    model = open_model()
    ids = [model.seq_open() for _ in range(MAX_SEQS)]
    assert ids == list(range(MAX_SEQS))
    with pytest.raises(RuntimeFailure, match="6 sequences") as failure:
        model.seq_open()
    assert failure.value.code == ELIMIT
    with pytest.raises(RuntimeFailure, match="6 sequences"):
        model.seq_fork(0, 0)
    model.append(0, [1, 2])
    model.seq_close(3)
    for call, args in (
        ("seq_close", (3,)),
        ("seq_length", (3,)),
        ("seq_truncate", (3, 0)),
        ("seq_truncate", (0, 3)),
        ("seq_truncate", (0, -1)),
        ("seq_fork", (3, 0)),
        ("seq_fork", (0, 3)),
        ("seq_fork", (0, -1)),
        ("seq_length", (-1,)),
        ("seq_length", (MAX_SEQS,)),
    ):
        with pytest.raises(RuntimeFailure) as failure:
            getattr(model, call)(*args)
        assert failure.value.code == EINPUT, (call, args)
    assert model.seq_open() == 3
