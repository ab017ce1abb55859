"""Candidates that ask the history: what they can find there that no given weight would, and what they must not."""

from __future__ import annotations

import pytest
import torch

from stream_rec.learning.replay import Exams
from stream_rec.learning.reranking import hardest, listwise_loss
from stream_rec.models.candidates import Candidates
from stream_rec.models.history_attention import PAIRS, HistoryAttention
from stream_rec.models.second_stage import SecondStage
from tests.stream_rec.models.exams import candidates_of

CPU = torch.device("cpu")
B, K, F, X, N = 128, 6, 1, 2, 8
LIKED, LEFT = 3, 4  # rows of two event types


def world(seed: int, told: str) -> tuple[Candidates, torch.Tensor]:
    """Each candidate goes with one past interaction; the right one goes with the only one that was liked.

    ``told``: by which statistic, or "itself" where it is that interaction's item.
    """
    generator = torch.Generator().manual_seed(seed)
    first_BK = torch.randn(B, K, generator=generator, device=CPU)
    long_B = torch.full((B,), N, device=CPU)
    candidates = candidates_of(
        first_BK, torch.zeros(B, K, F, device=CPU), torch.zeros(B, X, device=CPU), long_B, num_past=N
    )
    lag_BK = torch.rand(B, N, generator=generator, device=CPU).argsort(1)[:, :K]
    target_B = torch.randint(0, K, (B,), generator=generator, device=CPU)
    candidates.types_BN = torch.full((B, N), LEFT, device=CPU).scatter_(1, lag_BK.gather(1, target_B[:, None]), LIKED)
    if told == "itself":
        order_BK = torch.arange(K, device=CPU).expand(B, -1)
        candidates.place_BN = candidates.place_BN.scatter(1, lag_BK, order_BK)
    else:
        start = sum(list(PAIRS.values())[: list(PAIRS).index(told)])
        candidates.pairs_BKP.scatter_(2, start + lag_BK[:, :, None], 0.5)
    return candidates, torch.arange(K, device=CPU)[None, :] == target_B[:, None]


def share_right(stage: SecondStage, candidates: Candidates, is_target_BK: torch.Tensor) -> float:
    scores_BK = stage(candidates, candidates.features_BKF, candidates.moment_BX)
    return float((scores_BK.argmax(1) == is_target_BK.to(torch.int8).argmax(1)).float().mean())


@pytest.mark.parametrize("told", ["cosine", "vectors", "near", "itself"])
def test_it_learns_whom_to_ask(told: str) -> None:
    """How often each candidate goes with the past is the same for all: which of the past it is decides."""
    torch.manual_seed(0)
    stage = SecondStage(F, X, HistoryAttention(N, X))
    candidates, is_target_BK = world(0, told)
    assert torch.equal(stage(candidates, candidates.features_BKF, candidates.moment_BX), candidates.first_BK)
    optimiser = torch.optim.AdamW(stage.parameters(), lr=0.02)
    for step in range(150):
        candidates, is_target_BK = world(step, told)
        optimiser.zero_grad()
        scores_BK = stage(candidates, candidates.features_BKF, candidates.moment_BX)
        listwise_loss(scores_BK, is_target_BK, torch.ones(B, device=CPU)).backward()
        optimiser.step()
    assert share_right(stage, *world(1_000, told)) > 0.9
    deaf = SecondStage(F, X)
    assert share_right(deaf, *world(1_000, told)) < 0.3


def test_empty_slots_say_nothing_and_an_empty_history_is_no_fault() -> None:
    torch.manual_seed(0)
    attention = HistoryAttention(N, X)
    candidates, _ = world(0, "cosine")
    candidates.types_BN[:, 4:] = 0
    candidates.types_BN[0] = 0
    candidates.pairs_BKP[0] = 0
    candidates.place_BN[:, 4:] = K
    before_BKR = attention(candidates, candidates.moment_BX)
    assert torch.isfinite(before_BKR).all()
    assert torch.equal(before_BKR[0], torch.zeros_like(before_BKR[0]))
    candidates.past_BNY[:, 4:] = 100.0
    candidates.values_BN = candidates.values_BN.clone()
    candidates.values_BN[:, 4:] = 7
    start = 4
    candidates.pairs_BKP[1:, :, start:20] = 9.0
    assert torch.equal(attention(candidates, candidates.moment_BX)[1:], before_BKR[1:])


def test_what_is_kept_of_the_candidates_is_the_hardest_and_the_one_taken() -> None:
    candidates, is_target_BK = world(3, "itself")
    scores_BK = torch.randn(B, K, generator=torch.Generator().manual_seed(5), device=CPU)
    exams = hardest(Exams(candidates, is_target_BK, torch.ones(B, device=CPU)), scores_BK, 3)
    assert exams.is_target_BK.sum(1).tolist() == [1] * B
    for moment in range(B):
        target = int(is_target_BK[moment].to(torch.int8).argmax())
        others = sorted((k for k in range(K) if k != target), key=lambda k: -float(scores_BK[moment, k]))
        kept = {target, *others[:2]}
        first_K = candidates.first_BK[moment]
        assert set(exams.candidates.first_BK[moment].tolist()) == {float(first_K[k]) for k in kept}
        # The past still points at the same candidates, and at none that was left out.
        for lag, place in enumerate(exams.candidates.place_BN[moment].tolist()):
            was = int(candidates.place_BN[moment, lag])
            if was in kept:
                assert exams.candidates.first_BK[moment, place] == first_K[was]
            else:
                assert place == 3
