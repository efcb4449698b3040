"""The mathematics of a multilayer perceptron, written once against the Array API namespace `xp`.

It names no array library and does not depend on the device. Read the modules in this order:

- `ops` and `losses`: one layer and the loss, forward and backward;
- `mlp`: the network;
- `optimizers` and `schedules`: how the parameters are updated;
- `layout` and `initializers`: how the parameters are stored and initialized.
"""
