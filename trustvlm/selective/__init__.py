"""Pure statistics of selective prediction: how well a trust value separates right predictions from
wrong ones.

:mod:`~trustvlm.selective.metrics` measures that, :mod:`~trustvlm.selective.ranking` whether
probabilities mean what they say, :mod:`~trustvlm.selective.risk` proves a threshold,
:mod:`~trustvlm.selective.calibration` chooses what is proved, and
:mod:`~trustvlm.selective.monitoring` watches it. Everything takes (trust, correct), never
(probabilities, targets), and returns fractions in [0, 1].
"""
