"""The native engine: layered networks act and learn in C.

`engine.c` is compiled at first use (`compiler`), called through ctypes (`library`), and takes the
place of numpy and torch in `learning/descent.py` (`descent`) and `learning/acting.py` (`acting`).
The torch losses of the learners stay the specification: tests compare gradients.
"""
