"""llama.cpp with Penstock's scheduler in charge of every step (extra ``llamacpp``).

``device`` is the library, ``executor`` turns a plan into one batch, ``engine`` drives both.
"""
