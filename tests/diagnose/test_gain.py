"""Gains: against counting by hand, against simulation, and in closed form."""

import numpy as np
import pytest

from paredown.diagnose.gain import Judge, divergence, log_probabilities, paired

SCORES = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 4.0]])


def test_a_gain_counts_what_was_mended_and_what_was_broken():
    judge = Judge(np.array([0, 0, 0, 1]), SCORES)
    after = np.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    gain = judge.gain(SCORES, after)
    assert (gain.mended, gain.broken, gain.n, gain.accuracy) == (1, 1, 4, 0.0)
    assert judge.accuracy(SCORES) == 0.75 and judge.gain(SCORES, SCORES).share == 0.0


def test_the_divergence_is_zero_for_the_same_answers_and_the_textbook_sum_else():
    assert divergence(SCORES, SCORES + 7) == pytest.approx(0, abs=1e-12)
    p, q = np.exp(log_probabilities(SCORES)), np.exp(log_probabilities(SCORES[::-1]))
    assert divergence(SCORES, SCORES[::-1]) == pytest.approx((p * np.log(p / q)).sum(1).mean())
    judge = Judge(np.array([0, 1, 0, 1]), SCORES)
    back = judge.gain(SCORES[::-1].copy(), SCORES)
    assert back.share == pytest.approx(1) and back.divergence == pytest.approx(-divergence(SCORES, SCORES[::-1]))
    assert np.isfinite(judge.loss(np.full((4, 2), np.nan)))


def test_no_change_still_has_an_interval_and_it_narrows_with_the_samples():
    low, high = paired(0, 0, 100)
    assert low < 0 < high and high == pytest.approx(-low)
    assert paired(0, 0, 1000)[1] < 0.2 * high
    assert paired(30, 2, 400)[0] > 0 and paired(2, 30, 400)[1] < 0


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        counts = draw.multinomial(300, (0.05, 0.02, 0.93))
        low, high = paired(int(counts[0]), int(counts[1]), 300)
        held += low <= 0.03 <= high
    assert 0.93 < held / 2000 < 0.975
