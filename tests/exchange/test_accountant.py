"""The accountant against published values, another implementation, quadrature, and identities."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from p2pfrl.exchange.privacy.accountant import (
    delta_of_gaussian,
    epsilon_of_gaussian,
    epsilon_of_renyi,
    epsilon_of_sampled,
    mu_of,
    renyi,
    sigma_of,
    sigma_of_sampled,
)


@pytest.mark.parametrize(
    ("epsilon", "mu", "delta"),
    [
        (1e-12, 2.5e-05, 9.973556509781084e-06),
        (1e-09, 1e-09, 8.331547062934404e-11),
        (1e-09, 0.099, 0.039479162318401456),
        (0.01, 0.01, 0.0008373242674773423),
        (0.5, 0.5, 0.05244032328766966),
    ],
)
def test_small_deltas_of_small_epsilons_have_all_their_digits(epsilon, mu, delta):
    """Computed with 60 digits by mpmath."""
    assert delta_of_gaussian(epsilon, mu) == pytest.approx(delta, rel=3e-15)


def test_an_epsilon_below_what_the_orders_can_bound_has_no_sampled_noise():
    assert sigma_of_sampled(1e-9, 1e-3, 0.2, 30) == math.inf


WHOLE = tuple(float(order) for order in range(2, 257))


@pytest.mark.parametrize(
    ("sigma", "releases", "epsilon"),
    [
        (1.0, 1, 4.377178),
        (2.0, 100, 33.103732),
        (5.0, 100, 9.997256),
        (10.0, 1000, 17.856587),
        (4.0, 100, 13.206712),
    ],
)
def test_exact_epsilon_of_gaussian_releases(sigma, releases, epsilon):
    assert epsilon_of_gaussian(math.sqrt(releases) / sigma, 1e-5) == pytest.approx(
        epsilon, abs=1e-6
    )


@pytest.mark.parametrize(
    ("epsilon", "sigma"),
    [(0.5, 7.031826676), (1.0, 3.730631635), (3.0, 1.390593457), (8.0, 0.600229072)],
)
def test_exact_sigma_for_an_epsilon(epsilon, sigma):
    assert sigma_of(epsilon, 1e-5) == pytest.approx(sigma, abs=1e-6)


@pytest.mark.parametrize(
    ("q", "sigma", "releases", "classic", "improved"),
    [
        (256 / 60000, 1.1, 14062, 3.0091, 2.5970),
        (250 / 60000, 1.3, 3600, 1.1799, 0.9422),
        (0.01, 1.0, 1000, 2.5383, 2.1078),
        (1.0, 1.0, 1, 5.3026, 4.7527),
        (1.0, 10.0, 100, 5.3026, 4.7527),
        (1.0, 4.0, 100, 15.131, 14.177),
    ],
)
def test_renyi_epsilon_of_sampled_releases(q, sigma, releases, classic, improved):
    """Published by TF-Privacy: 3.01 and 1.18 of the first two."""
    for conversion, value in (("classic", classic), ("improved", improved)):
        found = epsilon_of_sampled(sigma, q, releases, 1e-5, orders=WHOLE, conversion=conversion)
        assert found == pytest.approx(value, rel=1e-3)
    assert epsilon_of_sampled(sigma, q, releases, 1e-5) <= improved + 1e-3, "more orders"


@pytest.mark.parametrize(
    ("q", "sigma", "releases", "epsilon"),
    [
        (0.01, 1.0, 1000, 2.1077530754515745),
        (0.1, 2.0, 50, 1.849223349693915),
        (0.001, 0.7, 5000, 1.898225164145552),
        (0.5, 3.0, 10, 2.6056820715908886),
    ],
)
def test_another_implementation_gives_the_same_bound(q, sigma, releases, epsilon):
    """dp-accounting 0.6.0: RdpAccountant over whole orders from 2 to 256, delta 1e-5."""
    found = epsilon_of_sampled(sigma, q, releases, 1e-5, orders=WHOLE)
    assert found == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(
    ("epsilon", "delta", "sigma", "epsilon_of_3"),
    [
        (0.1, 1e-6, 36.304690426195194, 1.4479880214199712),
        (2.0, 1e-3, 1.4452391609297837, 0.833528101804496),
        (20.0, 1e-8, 0.3437766670052192, 1.7542805047169392),
    ],
)
def test_another_implementation_gives_the_same_sigma(epsilon, delta, sigma, epsilon_of_3):
    """dp-accounting 0.6.0: get_sigma_gaussian, and get_epsilon_gaussian of sigma 3."""
    assert sigma_of(epsilon, delta) == pytest.approx(sigma, rel=1e-9)
    assert epsilon_of_gaussian(1 / 3, delta) == pytest.approx(epsilon_of_3, rel=1e-9)


@pytest.mark.parametrize(
    ("q", "sigma", "order"),
    [(0.01, 1.0, 1.25), (0.1, 2.0, 1.1), (0.001, 0.7, 4.9), (0.5, 3.0, 10.9), (0.2, 1.5, 4.0)],
)
def test_fractional_orders_agree_with_the_integral(q, sigma, order):
    def moment(x):
        density = math.exp(-x * x / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        ratio = 1 - q + q * math.exp((2 * x - 1) / (2 * sigma**2))
        return density * (ratio**order - 1)

    value = quad(moment, -12 * sigma, 12 * sigma + order, limit=200, epsabs=1e-13, epsrel=1e-12)
    expected = math.log1p(value[0]) / (order - 1)
    assert renyi(sigma, q, [order])[0] == pytest.approx(expected, rel=1e-7)


def test_releases_of_less_noise_cost_more_and_nothing_costs_nothing():
    assert epsilon_of_gaussian(0.0, 1e-5) == 0.0
    assert epsilon_of_gaussian(1e-7, 1e-5) == 0.0
    assert epsilon_of_renyi(np.zeros(3), 1e-5, [2.0, 3.0, 200.0]) < 0.03
    costs = [epsilon_of_gaussian(mu, 1e-5) for mu in np.linspace(0.05, 60, 40)]
    assert costs == sorted(costs)
    assert costs[-1] > 1500.0
    assert not renyi(1.0, 0.0, [2.0]).any()
    for mu in (0.1, 1.0, 7.0):
        assert mu_of(epsilon_of_gaussian(mu, 1e-5), 1e-5) == pytest.approx(mu, rel=1e-9)


def test_the_exact_value_is_below_every_bound_and_the_classic_formula_breaks_its_promise():
    for sigma in (0.5, 1.0, 3.0):
        exact = epsilon_of_gaussian(1 / sigma, 1e-5)
        improved, classic = (
            epsilon_of_sampled(sigma, 1.0, 1, 1e-5, conversion=how)
            for how in ("improved", "classic")
        )
        assert exact <= improved <= classic
    textbook = math.sqrt(2 * math.log(1.25 / 1e-5)) / 10
    assert delta_of_gaussian(10.0, 1 / textbook) > 1e-5


def test_sigma_for_sampled_releases_keeps_to_epsilon_closely():
    sigma = sigma_of_sampled(2.0, 1e-5, 0.01, 1000)
    assert epsilon_of_sampled(sigma, 0.01, 1000, 1e-5) <= 2.0
    assert epsilon_of_sampled(sigma * (1 - 1e-4), 0.01, 1000, 1e-5) > 2.0
    assert sigma_of_sampled(1.0, 1e-5, 1.0, 1) == sigma_of(1.0, 1e-5)
