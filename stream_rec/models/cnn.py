"""Caser (Tang & Wang, WSDM 2018): the newest interactions as an image, filters along time and along the factors.

Horizontal filters cover two, three, four neighbours in time and find a pattern wherever it stands; vertical ones weigh
the positions, alike for all factors. Both join in one layer, and with the user and the moment make the query.

Shapes: B = moments, W = interactions in the image (newest first), D = dimension, T = places of a filter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.reading import MomentReader, PastReader

IMAGE_LENGTH = 16  # beyond it the order says little, and a mean of the rest stands for it
HEIGHTS = (2, 3, 4)
NUM_VERTICAL = 4


class ConvolutionEncoder(Encoder):
    """Reads IMAGE_LENGTH interactions, or the whole history where that is shorter."""

    def __init__(
        self, *, dimension: int, history_length: int, num_layers: int, num_heads: int, num_context_buckets: int
    ) -> None:
        super().__init__()
        self.image_length = min(history_length, IMAGE_LENGTH)
        heights = [height for height in HEIGHTS if height <= self.image_length]
        num_horizontal = max(8, dimension // 2)
        self.past = PastReader(dimension, num_context_buckets)
        self.moment = MomentReader(dimension, history_length, num_context_buckets)
        self.norm_past = nn.LayerNorm(dimension)
        self.horizontal = nn.ModuleList(nn.Conv1d(dimension, num_horizontal, height) for height in heights)
        self.vertical = nn.Linear(self.image_length, NUM_VERTICAL, bias=False)
        width = num_horizontal * len(heights) + NUM_VERTICAL * dimension
        tower: list[nn.Module] = []
        for _ in range(num_layers - 1):
            tower += [nn.Linear(width, 2 * dimension), nn.GELU(approximate="tanh")]
            width = 2 * dimension
        self.tower = nn.Sequential(*tower, nn.Linear(width, dimension))
        self.norm_out = nn.LayerNorm(dimension)

    def forward(self, inputs: Inputs) -> Tensor:
        """[B, D] queries."""
        past_BND = self.norm_past(self.past(inputs, inputs.gaps_BN)) * (inputs.items_BN > 0)[:, :, None]
        missing = max(0, self.image_length - past_BND.shape[1])
        image_BDW = F.pad(past_BND[:, : self.image_length], (0, 0, 0, missing)).transpose(1, 2)
        found = [torch.relu(filters(image_BDW)).amax(2) for filters in self.horizontal]
        weighed_BX = self.vertical(image_BDW).flatten(1)
        query_BD = self.tower(torch.cat([*found, weighed_BX], dim=1))
        normed_BD: Tensor = self.norm_out(query_BD + self.moment(inputs))
        return normed_BD
