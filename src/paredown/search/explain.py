"""Why the floor was not reached, and what to try."""

from paredown.search.history import History


def explain(history: History, baseline: float | None) -> str:
    """Return, in one paragraph, what kept the floor from being reached: capacity, data, a step or a limit; and what to try."""
    good = [t for t in history.trials if t.good]
    if not good:
        failed = next(
            (t.result.failed for t in history.trials if t.result and t.result.failed),
            "no trial was finished in the budget",
        )
        return f"no candidate has a result: {failed}; give a larger --budget"
    sign = 1 if history.metric.higher_is_better else -1
    top = max(good, key=history.quality)
    best, floor = sign * history.quality(top), history.goal.floor
    told = f"the best {history.metric.name} found on validation is {best:.4f} at {history.amount(top):g} {history.goal.minimize}, the floor is {floor:g}"
    if history.goal.limits and not any(history.fits(t) for t in good):
        asked = ", ".join(f"{k}={v:g}" for k, v in history.goal.limits.items())
        return f"limit: no candidate keeps {asked}; {told}; try a larger {min(history.goal.limits)}"
    if baseline is not None and sign * baseline >= sign * floor > sign * best:
        return f"a step: the float network reaches {baseline:.4f}, what quantization leaves of it does not; {told}; try a larger --budget, for more bytes and longer training"
    if sign * best >= sign * floor:
        return f"data: {told}, but the test split says less; validation has too few samples to be sure: give more data, or a floor with less at stake"
    by_size = sorted(good, key=history.amount)
    half = len(by_size) // 2
    if half and max(map(history.quality, by_size[half:])) > max(map(history.quality, by_size[:half])) + 1e-9:
        return f"capacity or training: larger candidates do better; {told}; try a larger --budget or a larger --model"
    return f"data: larger candidates do no better; {told}; try more data, cleaner labels or a lower floor"
