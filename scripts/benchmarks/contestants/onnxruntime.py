"""onnxruntime, on the CPU."""

import os


def predict_proba(coefs, intercepts):
    """Return onnxruntime's counterpart of `predict_proba` with these parameters."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, last = [], [], len(coefs) - 1
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        constants += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"W{i}", f"b{i}"], [f"z{i}"]))
        function = ("Softmax", {"axis": 1}) if i == last else ("Relu", {})
        nodes.append(helper.make_node(function[0], [f"z{i}"], [f"h{i + 1}"], **function[1]))
    ends = [
        [helper.make_tensor_value_info(f"h{i}", TensorProto.FLOAT, ["n", width])]
        for i, width in ((0, len(coefs[0])), (last + 1, len(intercepts[-1])))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "mlp", *ends, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    # It does not read the variable that limits the threads of NumPy and PyTorch. 0 is one per core.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda X: session.run(None, {"h0": X})[0]
