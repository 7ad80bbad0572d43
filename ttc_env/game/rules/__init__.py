"""Rules: who serves and who pays. One file a rule, with all that is known about that game.

Start at `base`: what a rule has to say, and what is worked out from that alone.
"""
