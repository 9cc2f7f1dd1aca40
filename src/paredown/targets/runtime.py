"""Running files in ONNX Runtime. Needs no torch."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime

from paredown.core.errors import BadInput
from paredown.graph.onnx_exact import OPTION, exact_allowed

Predict = Callable[[np.ndarray], np.ndarray]


def session(model: onnx.ModelProto | bytes, threads: int = 1, exact: bool = False) -> onnxruntime.InferenceSession:
    """Return a session over a model, on the CPU. Raises BadInput when ONNX Runtime refuses it.

    exact: sums of int8 products are right on every processor, where the model allows it (`graph.onnx_exact`). By default ONNX
    Runtime saturates pairs of them at 16 bits on x86-64 processors without VNNI; elsewhere `exact` changes nothing.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if exact and exact_allowed(onnx.load_from_string(model) if isinstance(model, bytes) else model):
        options.add_session_config_entry(OPTION, "1")
    data = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions share no base class of their own below Exception.
    except Exception as error:
        raise BadInput(f"ONNX Runtime refuses this model: {str(error).splitlines()[0]}") from error


def predictor(model: onnx.ModelProto | bytes, batch: int = 1024, exact: bool = False) -> Predict:
    """Return `predict(inputs) -> scores`: float32 in, the model's first output out, in batches. exact: see `session`.

    `predict` raises BadInput for samples of a shape that the model does not take.
    """
    run = session(model, exact=exact)
    name = run.get_inputs()[0].name

    def predict(inputs: np.ndarray) -> np.ndarray:
        starts = range(0, max(1, len(inputs)), batch)
        try:
            return np.concatenate([run.run(None, {name: inputs[at : at + batch]})[0] for at in starts])
        # ONNX Runtime's exceptions share no base class of their own below Exception.
        except Exception as error:
            line = str(error).splitlines()[0]
            raise BadInput(f"this file does not run on samples of shape {inputs.shape[1:]}: {line}") from error

    return predict
