"""The native engine: minibatch steps of layered networks in C.

`engine.c` is compiled at first use (`compiler`), called through ctypes (`library`), and takes the
place of numpy and torch in `learning/descent.py` (`descent`). The torch losses of the learners stay
the specification: tests compare gradients.
"""
