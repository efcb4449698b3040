"""What the benchmark measures: xpnet and the libraries it is compared with, one file per library.

A contestant that trains has `epoch()`, which takes all steps of an epoch, waits for the device and returns
the mean loss of the steps, and `theta()`, its parameters on the host in xpnet's layout. One whose accuracy is
measured has `classify(X)`, which returns class indices on the host, and `n_epochs`, after which its training
ends.
"""
