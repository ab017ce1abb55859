"""Recurrent recommender network (Wu et al., WSDM 2017): a long short-term memory over what was touched, beside factors.

The factors that stay (user, hour, context) join the state that moves when the query is made.
"""

from __future__ import annotations

from torch import nn

from stream_rec.models.recurrent import RecurrentEncoder


class LstmEncoder(RecurrentEncoder):
    """``num_layers`` LSTMs on top of each other."""

    cell = nn.LSTM
