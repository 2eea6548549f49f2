"""Language models as ONNX graphs, which read characters and return word vectors.

`language_model_graph` builds the graph of one direction. The recurrence in it is one of two kinds:

- `scan`: an ONNX `Scan` over the characters, of standard operators; `scan_steps` has the equations of each recurrence.
- `int8_lstm`: ONNX Runtime's own int8 LSTM, which is faster for single sentences, for LSTMs in int8.

In int8, recurrent weights have one scale per row, and the states that they multiply have a fixed scale. A vector
therefore depends on its own text alone; with scales taken from the data it would depend on whatever else is in the
batch.

`builder` collects nodes and constants, and `lm_weights` reads the weights of a model. `example.py` is copied into
exported folders: it needs NumPy and ONNX Runtime only.
"""

from charembed.onnx_graphs.language_model import language_model_graph
from charembed.onnx_graphs.scan_steps import GraphPrecision

__all__ = ["GraphPrecision", "language_model_graph"]
