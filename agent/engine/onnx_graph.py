"""An ONNX graph as it grows, and the session that runs it. Weights are lent to the session, not copied into the graph.

Large tensors are declared as external data and handed over as OrtValues that point to the caller's own memory: a
memory-mapped file stays just that, and no protobuf limit of 2 GB is in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agent.quiet  # noqa: F401  # before onnxruntime: it sends nothing

# isort: split
import onnx
import onnxruntime  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from agent.errors import EngineError, ModelError

CONTRIB = "com.microsoft"
# The oldest onnxruntime that is served is 1.23 (the last for Python 3.10): opset 23, IR 11.
_OPSET, _IR = 21, 10
_INLINE_BYTES = 1024

_STATE = onnxruntime.capi.onnxruntime_pybind11_state
_REFUSALS = (_STATE.Fail, _STATE.InvalidArgument, _STATE.InvalidGraph, _STATE.NotImplemented, _STATE.RuntimeException)

Array = NDArray[Any]
Attribute = int | float | str | Sequence[int]


class GraphBuilder:
    """Nodes, inputs, outputs and weights. Every method that adds a value gives back its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._lent: dict[str, Array] = {}
        self._count = 0

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))
        return name

    def output(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))
        return name

    def constant(self, array: Array) -> str:
        """A weight. The session reads the caller's memory; an array that is not contiguous is copied."""
        self._count += 1
        name = f"w{self._count}"
        array = np.asarray(array, order="C")
        if array.nbytes < _INLINE_BYTES:
            self._initialisers.append(numpy_helper.from_array(array, name))
            return name
        tensor = TensorProto(name=name, data_type=_onnx_type(array.dtype.type), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="lent")  # never opened: Session puts the array in its place
        self._initialisers.append(tensor)
        self._lent[name] = array
        return name

    def node(
        self, op: str, *inputs: str, domain: str = "", outputs: Sequence[str] | None = None, **attributes: Attribute
    ) -> str:
        """Add an operation; its first output. ``outputs`` names them where they must have names or are several."""
        self._count += 1
        names = list(outputs) if outputs else [f"{op}{self._count}"]
        node = helper.make_node(op, inputs, names, f"{op}{self._count}", domain=domain)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(node)
        return names[0]

    def outputs_of(self, op: str, count: int, *inputs: str, domain: str = "", **attributes: Attribute) -> list[str]:
        """Add an operation with several outputs."""
        self._count += 1
        names = [f"{op}{self._count}_{index}" for index in range(count)]
        self.node(op, *inputs, domain=domain, outputs=names, **attributes)
        return names

    def session(self, threads: int) -> Session:
        """Compile. Raises ModelError where onnxruntime refuses the graph. ``threads`` 0: one for each core."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._initialisers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        lent, self._lent = self._lent, {}
        return Session(model.SerializeToString(), lent, threads)


class Session:
    """A compiled graph, run on arrays of the caller through IO binding."""

    def __init__(self, model: bytes, lent: dict[str, Array], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised, and logged where it is caught
        # Two sessions that spin for work starve each other: decoding halves.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # An OrtValue holds its array, and the session the OrtValue: until it has laid out a copy of its own, as it does
        # with nearly every matrix, so nothing here must hold them as well.
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in lent.values()]
        options.add_external_initializers(list(lent), values)
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            raise ModelError(f"onnxruntime {onnxruntime.__version__} cannot run this model: {error}") from error

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Compute into ``outputs``. An output that shares an input's memory is updated in place. Raises EngineError."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except (*_REFUSALS, RuntimeError) as error:
            raise EngineError(f"onnxruntime failed: {error}") from error


def _onnx_type(dtype: type[np.generic]) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
