"""The second stage and the floor below it: where it starts, what it learns, who leads."""

from __future__ import annotations

import torch

from stream_rec.learning.reranking import listwise_loss
from stream_rec.models.candidates import Candidates
from stream_rec.models.history_attention import HistoryAttention
from stream_rec.models.leader import Leader
from stream_rec.models.second_stage import CLIP, SecondStage, Standardiser
from tests.stream_rec.models.exams import candidates_of

CPU = torch.device("cpu")
B, K, F, X = 64, 6, 4, 3


def world(seed: int) -> tuple[Candidates, torch.Tensor]:
    """The right candidate has both of the first two features: no sum of them tells it from those with one, twice."""
    generator = torch.Generator().manual_seed(seed)
    features_BKF = torch.zeros(B, K, F, device=CPU)
    target_B = torch.randint(0, K, (B,), generator=generator, device=CPU)
    for index in range(B):
        for place in range(K):
            features_BKF[index, place, place % 2] = 2.0
        features_BKF[index, target_B[index], :2] = 1.0
    is_target_BK = torch.arange(K, device=CPU)[None, :] == target_B[:, None]
    first_BK = torch.randn(B, K, generator=generator, device=CPU)
    length_B = torch.full((B,), 9, device=CPU)
    return candidates_of(first_BK, features_BKF, torch.zeros(B, X, device=CPU), length_B), is_target_BK


def scores(stage: SecondStage, candidates: Candidates) -> torch.Tensor:
    scores_BK: torch.Tensor = stage(candidates, candidates.features_BKF, candidates.moment_BX)
    return scores_BK


def test_it_starts_as_the_first_stage_and_learns_what_no_sum_says() -> None:
    torch.manual_seed(0)
    stage = SecondStage(F, X)
    candidates, is_target_BK = world(0)
    assert torch.equal(scores(stage, candidates), candidates.first_BK)
    optimiser = torch.optim.AdamW(stage.parameters(), lr=0.02)
    for step in range(200):
        candidates, is_target_BK = world(step)
        optimiser.zero_grad()
        listwise_loss(scores(stage, candidates), is_target_BK, torch.ones(B, device=CPU)).backward()
        optimiser.step()
    candidates, is_target_BK = world(1_000)
    right = scores(stage, candidates).argmax(1) == is_target_BK.to(torch.int8).argmax(1)
    assert right.float().mean() > 0.95


def test_empty_places_stay_empty_and_leave_all_gradients_finite() -> None:
    stage = SecondStage(F, X, HistoryAttention(2, X))
    candidates, is_target_BK = world(0)
    candidates.first_BK[:, -2:] = float("-inf")
    scores_BK = scores(stage, candidates)
    assert torch.isneginf(scores_BK[:, -2:]).all()
    is_target_BK &= torch.isfinite(candidates.first_BK)
    listwise_loss(scores_BK, is_target_BK, torch.ones(B, device=CPU)).backward()
    assert all(torch.isfinite(p.grad).all() for p in stage.parameters() if p.grad is not None)


def test_moments_whose_item_is_no_candidate_or_weighs_nothing_are_left_out_of_the_loss() -> None:
    scores_BK = torch.tensor([[0.0, 1.0], [3.0, 0.0], [0.0, 2.0]], device=CPU)
    is_target_BK = torch.tensor([[True, False], [False, False], [False, True]], device=CPU)
    weight_B = torch.tensor([2.0, 5.0, 0.0], device=CPU)
    expected = torch.log(1 + torch.exp(torch.tensor(1.0, device=CPU)))
    torch.testing.assert_close(listwise_loss(scores_BK, is_target_BK, weight_B), expected)


def test_scales_are_those_of_what_was_seen_and_outliers_are_clipped() -> None:
    scale = Standardiser(2, CPU)
    values_BKF = torch.randn(1_000, 1, 2, generator=torch.Generator().manual_seed(1), device=CPU)
    values_BKF = values_BKF * torch.tensor([10.0, 0.1], device=CPU) + 5.0
    is_real_BK = torch.ones(1_000, 1, dtype=torch.bool, device=CPU)
    for part in (slice(0, 500), slice(500, 1_000)):
        scale.observe(values_BKF[part], is_real_BK[part])
    scaled = scale(values_BKF)
    torch.testing.assert_close(scaled.mean((0, 1)), torch.zeros(2, device=CPU), atol=0.02, rtol=0)
    torch.testing.assert_close(scaled.std((0, 1)), torch.ones(2, device=CPU), atol=0.02, rtol=0)
    assert scale(torch.full((1, 1, 2), 1e9, device=CPU)).max() == CLIP
    before = scale.state()
    scale.observe(values_BKF, ~is_real_BK)  # empty places are not looked at
    assert all(torch.equal(before[name], value) for name, value in scale.state().items())


def test_the_part_that_has_proved_best_for_a_length_of_history_orders_its_lists() -> None:
    leader = Leader(3, CPU)
    parts_BKP = torch.randn(B, K, 3, generator=torch.Generator().manual_seed(2), device=CPU)
    long_B, none_B = torch.full((B,), 20, device=CPU), torch.zeros(B, dtype=torch.int64, device=CPU)
    assert torch.equal(leader.scores(parts_BKP, long_B), parts_BKP[:, :, 0])  # the second stage, until another proves
    best_of = {20: 2, 0: 1}  # for long histories the third part is right, for none the first stage
    for _ in range(40):
        for length_B in (long_B, none_B):
            right_BK = parts_BKP[:, :, best_of[int(length_B[0])]]
            is_target_BK = right_BK == right_BK.max(1, keepdim=True).values
            leader.observe(parts_BKP, is_target_BK, torch.ones(B, device=CPU), length_B)
    assert torch.equal(leader.scores(parts_BKP, long_B), parts_BKP[:, :, 2])
    assert torch.equal(leader.scores(parts_BKP, none_B), parts_BKP[:, :, 1])
    assert torch.equal(leader.scores(parts_BKP, none_B + 2), parts_BKP[:, :, 0])  # nothing known of 1–4


def test_an_item_that_is_no_candidate_tells_nothing_of_the_parts() -> None:
    """Below its score of 0 all parts may lie: none of them is to be praised or spoilt for it."""
    leader = Leader(3, CPU)
    parts_BKP = -1.0 - torch.rand(B, K, 3, generator=torch.Generator().manual_seed(4), device=CPU)
    length_B = torch.full((B,), 9, device=CPU)
    before_LP = leader.ndcg_LP.clone()
    nothing_BK = torch.zeros(B, K, dtype=torch.bool, device=CPU)
    leader.observe(parts_BKP, nothing_BK, torch.ones(B, device=CPU), length_B)
    torch.testing.assert_close(leader.ndcg_LP, before_LP * 2.0 ** (-B / 10_000))
