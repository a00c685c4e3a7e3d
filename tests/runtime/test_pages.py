"""Property: after any opens, forks, truncations, closes and mixed batches, no page is leaked or stale."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.runtime.harness import ELIMIT, MAX_SEQS, N_CTX, N_PAGES, PAGE, VOCAB, expected_logits
from tests.runtime.model import Model, Runtime, RuntimeFailure

TOKEN = st.integers(0, VOCAB - 1)


def machine(runtime: Runtime) -> type[RuleBasedStateMachine]:
    class Sequences(RuleBasedStateMachine):
        """``held`` is the truth: the tokens each open sequence must be holding."""

        def __init__(self) -> None:
            super().__init__()
            self.model = Model(runtime, threads=1, ubatch=3)
            self.held: dict[int, list[int]] = {}

        def teardown(self) -> None:
            self.model.close()

        def pick(self, data: st.DataObject) -> int:
            return data.draw(st.sampled_from(sorted(self.held)))

        @precondition(lambda self: len(self.held) < MAX_SEQS)
        @rule()
        def open(self) -> None:
            self.held[self.model.seq_open()] = []

        @precondition(lambda self: self.held)
        @rule(data=st.data())
        def close(self, data: st.DataObject) -> None:
            seq = self.pick(data)
            self.model.seq_close(seq)
            del self.held[seq]

        @precondition(lambda self: 0 < len(self.held) < MAX_SEQS)
        @rule(data=st.data())
        def fork(self, data: st.DataObject) -> None:
            seq = self.pick(data)
            length = data.draw(st.integers(0, len(self.held[seq])))
            new = self.model.seq_fork(seq, length)
            assert new not in self.held
            self.held[new] = self.held[seq][:length]

        @precondition(lambda self: self.held)
        @rule(data=st.data())
        def truncate(self, data: st.DataObject) -> None:
            seq = self.pick(data)
            length = data.draw(st.integers(0, len(self.held[seq])))
            self.model.seq_truncate(seq, length)
            del self.held[seq][length:]

        @precondition(lambda self: self.held)
        @rule(data=st.data(), runs=st.lists(st.lists(TOKEN, min_size=1, max_size=9), min_size=1, max_size=5))
        def step(self, data: st.DataObject, runs: list[list[int]]) -> None:
            after = {seq: list(tokens) for seq, tokens in self.held.items()}
            rows, want = [], []
            for tokens in runs:  # a run of rows each; the same sequence may come twice
                seq = self.pick(data)
                for i, token in enumerate(tokens):
                    last = i + 1 == len(tokens)
                    rows.append((seq, len(after[seq]), token, int(last)))
                    after[seq].append(token)
                want.append(list(after[seq]))
            free = self.model.free_pages()
            try:
                logits, _ = self.model.step(rows)
            except RuntimeFailure as failure:
                assert failure.code == ELIMIT
                assert self.model.free_pages() == free
                # The new pages, and a copied one for each sequence, are really not there.
                need = sum(-(-len(t) // PAGE) - -(-len(self.held[s]) // PAGE) for s, t in after.items())
                touched = sum(after[s] != self.held[s] for s in after)
                assert need + touched > free or max(map(len, after.values())) > N_CTX
                return
            self.held = after
            for got, tokens in zip(logits, want, strict=True):
                np.testing.assert_array_equal(got, expected_logits(tokens))

        @invariant()
        def pages_add_up(self) -> None:
            self.model.check_pages()
            if not self.held:
                assert self.model.free_pages() == N_PAGES
            for seq, tokens in self.held.items():
                assert self.model.seq_length(seq) == len(tokens)

    return Sequences


def test_page_accounting(runtime: Runtime) -> None:
    run_state_machine_as_test(
        lambda: machine(runtime)(),
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
