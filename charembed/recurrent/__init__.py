"""Recurrent neural networks: Elman RNN, LSTM, peephole LSTM, GRU and MGU.

Each is a module `(input_size, hidden_size, num_layers=1, bidirectional=False)`. It takes an input of shape (seq_len,
batch, input_size), optionally an initial state and lengths, and returns `(output, state)`.

To learn how they work, read the modules in this order:

1. `equations`: the equations of each recurrence, one time step at a time. Everything else is tested against them.
2. `states`, `layers`, `cells`: states, the base class with layers and directions, and the five recurrences.
3. `packed_layout`, `step_loop`, `kernels`, `gru_kernels`: the fast path over all time steps, forward and backward.
4. `products`, `activations`, `cuda_graphs`, `fused_kernels`: what makes it fast on a CPU and on a GPU;
   `weight_pieces`, `float32_precision`: how cuDNN finds the weights, and what float32 means on a GPU.
5. `table_reader` and `onednn_lstm`: the fast path of embedding, where the inputs are rows of a table.
6. `translation`: weights from and to PyTorch, Keras and ONNX.
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
