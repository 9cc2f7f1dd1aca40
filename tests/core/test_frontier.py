import random

from paredown.core.frontier import pareto


def test_the_frontier_is_what_nothing_beats():
    draw = random.Random(0)
    points = [(draw.randrange(30), draw.randrange(30)) for _ in range(200)]
    front = pareto(points, cost=lambda p: p[0], quality=lambda p: p[1])
    for point in points:
        beaten = any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in points)
        assert (point in front) == (not beaten)
    assert front == sorted(set(front))


def test_nothing_gives_nothing():
    assert pareto([], cost=float, quality=float) == []
