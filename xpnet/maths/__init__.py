"""The mathematics of a multilayer perceptron, written once against the Array API namespace `xp`.

It names no array library and cannot know where it runs. To read it from the beginning: `ops` and `losses`
(one layer, forward and backward), `mlp` (the network), `optimizers` and `schedules` (how it learns), `layout`
and `initializers` (where the parameters are stored, and how they are drawn).
"""
