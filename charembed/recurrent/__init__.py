"""The recurrences: receive vectors a time step, hand on hidden states a time step.

Each is a module `(input_size, hidden_size, num_layers=1, bidirectional=False)` that takes `(seq_len, batch,
input_size)` and, where asked to, a state and lengths, and gives `(output, state)`. Each has its equations as a readable
`step` and runs on something faster that is tested against it.
"""

from charembed.recurrent.cells import GRU, LSTM, MGU, ElmanRNN, PeepholeLSTM
from charembed.recurrent.dropout import VariationalDropout
from charembed.recurrent.layers import Recurrence
from charembed.recurrent.states import HiddenState, LSTMState, State, map_state

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "ElmanRNN",
    "HiddenState",
    "LSTMState",
    "PeepholeLSTM",
    "Recurrence",
    "State",
    "VariationalDropout",
    "map_state",
]
