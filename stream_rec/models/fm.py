"""A factorisation machine (Rendle, ICDM 2010) over user, past items, hour, weekday, gap, lengths, context, and item.

Its score sums <v_i, v_j> over all pairs of features that are present. Pairs without the item are the same for every
candidate, so they cancel in a ranking; what is left is <item, sum of all others>: the query is that sum, exactly. A
past item's feature is 1 / root of their number, with which the machine contains SVD++ (as Rendle has it).

Shapes: B = moments, D = dimension.
"""

from __future__ import annotations

from torch import Tensor

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import FACTOR_SCALE, MomentReader, taste


class FactorisationMachine(Encoder):
    """All features side by side; none of them sees another but the item."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.moment = MomentReader(dimension, history_length, num_context_buckets)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        queries_BD: Tensor = FACTOR_SCALE * (self.moment(inputs) + taste(inputs))
        return queries_BD
