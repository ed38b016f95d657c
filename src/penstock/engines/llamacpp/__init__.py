"""llama.cpp with every step planned by Penstock's scheduler (extra ``llamacpp``).

``device`` is the library, ``executor`` turns a plan into one batch, ``engine`` drives both.
"""
