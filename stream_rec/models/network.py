"""All that has parameters: tables of items, users and attributes, the encoder, and the gate over the statistics.

Shapes: B = moments, N = history length, I = item rows, R = rows of a working set, D = dimension,
A = attributes per item.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.models.base import Inputs
from stream_rec.models.candidates import Candidates
from stream_rec.models.evidence import num_gate_features
from stream_rec.models.history_attention import HistoryAttention
from stream_rec.models.items import RowTable, item_vectors
from stream_rec.models.mixture import StatisticsMixture
from stream_rec.models.registry import make_encoder, read_length
from stream_rec.models.second_stage import SecondStage, Standardiser
from stream_rec.models.tasks import make_heads
from stream_rec.state.moments import Moments
from stream_rec.state.statistics import SPARSE

NUM_OTHER_FEATURES = 17  # of a candidate, besides one share per statistic
TABLES = ("item_in", "item_out", "user_in", "attribute_in", "attribute_out")


class Network:
    """Separate tables for reading (``in``, D wide) and for being predicted (``out``, D + 1 wide: the bias)."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        state, dimension = settings.state, settings.model.dimension
        start = settings.learning.row_accumulator_start
        self._seed = settings.worker.seed
        self.device = device
        self.read_length = read_length(settings)

        def table(num_rows: int, width: int, std: float) -> RowTable:
            return RowTable(num_rows, width, std=std, accumulator_start=start, device=device)

        self.item_in = table(state.max_items + 1, dimension, 0.05)
        # Zero: an item says nothing of itself until it has been learnt from; its attributes and the statistics do.
        self.item_out = table(state.max_items + 1, dimension + 1, 0.0)
        # Zero, too: what is not known of a user must not be noise in his query.
        self.user_in = table(state.max_users + 1, dimension, 0.0)
        self.attribute_in = table(state.num_feature_buckets, dimension, 0.05)
        self.attribute_out = table(state.num_feature_buckets, dimension + 1, 0.0)
        if device.type != "meta":
            rows = torch.arange(1, state.num_feature_buckets, device=device)
            self.attribute_in.reset(rows, torch.Generator().manual_seed(self._seed))
        self.encoder = make_encoder(settings, device)
        with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
            torch.manual_seed(self._seed)
            num_half_lives = len(state.popularity_half_lives_s) + 1
            num_moment_features = num_gate_features(num_half_lives)
            num_features = num_half_lives + 1 + len(SPARSE) + NUM_OTHER_FEATURES
            mixture = StatisticsMixture(num_half_lives)
            attention = None
            if settings.ranking.history_attention:
                attention = HistoryAttention(state.history_length, num_moment_features)
            second_stage = SecondStage(num_features, num_moment_features, attention)
        with device:
            self.tasks = make_heads(settings)
        self.mixture = mixture.to(device)
        self.second_stage = second_stage.to(device)
        self.standardise_candidates = Standardiser(num_features, device)
        self.standardise_moments = Standardiser(num_moment_features, device)

    def new_items(self, rows: list[int], counter: int) -> None:
        """Rows got new owners. What they start from follows from the seed and ``counter`` (the batch) alone."""
        rows_R = torch.tensor(rows, device=self.device)
        generator = torch.Generator().manual_seed((self._seed << 31) + counter)  # below 2^63: torch takes no more
        self.item_in.reset(rows_R, generator)
        self.item_out.reset(rows_R, generator)
        if self.tasks:
            self.tasks.items.forget(rows_R)

    def new_users(self, rows: list[int]) -> None:
        """Rows got new owners: of them nothing is known."""
        rows_R = torch.tensor(rows, dtype=torch.int64, device=self.device)
        self.user_in.reset(rows_R, torch.Generator())
        if self.tasks:
            self.tasks.users.forget(rows_R)

    def inputs(self, moments: Moments, vectors_RD: Tensor, items_BN: Tensor, users_BD: Tensor | None = None) -> Inputs:
        """What the encoder reads. ``items_BN`` points into ``vectors_RD``, whose row 0 stands for an empty slot.

        ``users_BD`` are the users' vectors where they are to be learnt; left out, they are read from the table.
        """
        history, length = moments.history, self.read_length
        return Inputs(
            vectors_RD=vectors_RD,
            items_BN=items_BN[:, :length],
            gaps_BN=moments.gaps_BN[:, :length],
            types_BN=history.types_BN[:, :length],
            situations_BN=history.situations_BN[:, :length],
            values_BN=history.values_BN[:, :length],
            users_BD=self.user_in.weight_IW[moments.user_B] if users_BD is None else users_BD,
            lengths_B=history.lengths_B.clamp(max=length),
            session_lengths_B=moments.session_lengths_B.clamp(max=length),
            hours_B=moments.hour_B,
            weekdays_B=moments.weekday_B,
            slots_BC=moments.slots_BC,
        )

    def rescore(self, candidates: Candidates) -> Tensor:
        """[B, K] the second stage's scores."""
        scores_BK: Tensor = self.second_stage(
            candidates,
            self.standardise_candidates(candidates.features_BKF),
            self.standardise_moments(candidates.moment_BX),
        )
        return scores_BK

    def vectors(self, features_RA: Tensor, num_features: int, rows: slice) -> tuple[Tensor, Tensor]:
        """In and out vectors [R, D] and [R, D + 1] of a range of rows, without gradient."""
        with torch.no_grad():
            return (
                item_vectors(self.item_in.weight_IW[rows], self.attribute_in.weight_IW[:num_features], features_RA),
                item_vectors(self.item_out.weight_IW[rows], self.attribute_out.weight_IW[:num_features], features_RA),
            )

    def state(self, num_items: int, num_users: int, num_features: int) -> dict[str, Any]:
        """Tables for the rows in use; dense parameters and scales of features are the trainer's."""
        num_rows = {"item": num_items, "user": num_users, "attribute": num_features}
        return {name: self._table(name).state(num_rows[name.split("_")[0]]) for name in TABLES}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        for name in TABLES:
            self._table(name).load_state(state[name])

    def _table(self, name: str) -> RowTable:
        table: RowTable = getattr(self, name)
        return table
