"""Learning rates against PyTorch's schedulers and scikit-learn's formula."""

from functools import partial

import pytest

from xpnet.maths.schedules import (
    SCHEDULES,
    constant,
    cosine,
    exponential,
    inverse_scaling,
    one_cycle,
    step,
    warm_up,
)

TOTAL = 40


def by_pytorch(make, steps=TOTAL):
    """Return the rates of the first steps of a torch.optim.lr_scheduler on an optimizer at the rate 0.2."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rates(schedule, total=TOTAL, **options):
    return [schedule(t, lr=0.2, total=total, **options) for t in range(1, TOTAL + 1)]


def test_cosine():
    assert rates(cosine) == pytest.approx(by_pytorch(lambda of, opt: of.CosineAnnealingLR(opt, TOTAL)))


def test_one_cycle():
    theirs = by_pytorch(lambda of, opt: of.OneCycleLR(opt, 0.2, total_steps=TOTAL + 1, cycle_momentum=False))
    assert rates(one_cycle, TOTAL + 1) == pytest.approx(theirs)


def test_one_cycle_with_other_settings():
    options = {"total_steps": TOTAL + 1, "pct_start": 0.6, "div_factor": 10, "final_div_factor": 100}
    theirs = by_pytorch(lambda of, opt: of.OneCycleLR(opt, 0.2, cycle_momentum=False, **options))
    assert rates(one_cycle, TOTAL + 1, rise=0.6, start=0.1, end=0.001) == pytest.approx(theirs)


def test_exponential():
    theirs = by_pytorch(lambda of, opt: of.ExponentialLR(opt, gamma=0.05 ** (1 / TOTAL)))
    assert rates(exponential, final=0.05) == pytest.approx(theirs)


def test_step():
    theirs = by_pytorch(lambda of, opt: of.MultiStepLR(opt, milestones=[10, 30], gamma=0.3))
    assert rates(step, factor=0.3, after=(10, 30)) == pytest.approx(theirs)


def test_step_drops_at_half_and_three_quarters():
    theirs = by_pytorch(lambda of, opt: of.MultiStepLR(opt, milestones=[20, 30], gamma=0.1))
    assert rates(step) == pytest.approx(theirs)


def test_warm_up():
    linear = by_pytorch(lambda of, opt: of.LinearLR(opt, start_factor=1 / 8, total_iters=7))
    warmed = [warm_up(t, schedule=lambda t: 0.2, steps=8) for t in range(1, TOTAL + 1)]
    assert warmed == pytest.approx(linear)


def test_warm_up_goes_on_with_the_first_step_of_what_it_leads_to():
    after = partial(cosine, lr=0.2, total=TOTAL)
    warmed = [warm_up(t, schedule=after, steps=4) for t in range(1, TOTAL + 5)]
    assert warmed[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert warmed[4:] == rates(cosine)
    assert warm_up(1, schedule=after, steps=0) == 0.2


@pytest.mark.parametrize(
    ("ours", "theirs"), [({}, {}), ({"power": 0.3}, {"power_t": 0.3})], ids=["default", "0.3"]
)
def test_inverse_scaling(ours, theirs):
    sgd = pytest.importorskip("sklearn.neural_network._stochastic_optimizers").SGDOptimizer
    optimizer = sgd([], learning_rate_init=0.2, lr_schedule="invscaling", **theirs)
    expected = [0.2]
    for t in range(1, TOTAL):
        optimizer.iteration_ends(t)
        expected.append(optimizer.learning_rate)
    assert rates(inverse_scaling, **ours) == pytest.approx(expected)


def test_constant():
    assert set(rates(constant)) == {0.2}


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 100])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_lies_between_zero_and_the_peak_even_after_the_end(name, total):
    schedule = partial(SCHEDULES[name], lr=0.2, total=total)
    assert all(0.0 <= schedule(t) <= 0.2 for t in range(1, 3 * total + 2))
    assert schedule(3 * total) <= schedule(total)


@pytest.mark.parametrize("rise", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle_may_rise_for_any_share_of_the_run(rise):
    rates = [one_cycle(t, lr=0.2, total=4, rise=rise) for t in range(1, 7)]
    assert all(0.0 < rate <= 0.2 for rate in rates)
    assert rates[3] == (0.2 if rise == 1.0 else pytest.approx(0.2 / 250_000))
    assert rates[5] == pytest.approx(0.2 / 250_000)
