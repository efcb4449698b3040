"""The command line: `xpnet train`, `xpnet predict`, `xpnet info`."""
