"""Greeks of a million options: price, delta, gamma, vega, theta, rho by derivatives of the pricing formula.

`elementwise_grad` gives the derivative of each price by its own parameters; gamma is the derivative of a derivative.
"""

import time

import numpy as np
from scipy.special import erf

import adjit


def normal(z):
    """The cumulative normal distribution."""
    return 0.5 * (1 + erf(z * np.sqrt(0.5)))


def price(spot, strike, years, rate, volatility):
    """A European call, by Black and Scholes."""
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / spread
    return spot * normal(d1) - strike * np.exp(-rate * years) * normal(d1 - spread)


@adjit.jit
def greeks(spot, strike, years, rate, volatility):
    """Delta, gamma, vega, theta and rho."""
    given = (spot, strike, years, rate, volatility)
    delta, theta, rho, vega = adjit.elementwise_grad(price, argnums=(0, 2, 3, 4))(*given)
    gamma = adjit.elementwise_grad(adjit.elementwise_grad(price))(*given)
    return delta, gamma, vega, -theta, rho


def by_hand(spot, strike, years, rate, volatility):
    """The same from the textbook."""
    root = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / root
    density, second = np.exp(-(d1**2) / 2) / np.sqrt(2 * np.pi), normal(d1 - root)
    later = strike * np.exp(-rate * years)
    theta = -spot * density * volatility / (2 * np.sqrt(years)) - rate * later * second
    return normal(d1), density / (spot * root), spot * density * np.sqrt(years), theta, later * years * second


def main():
    rng = np.random.default_rng(0)
    ranges = [(50, 150), (50, 150), (0.1, 2), (0, 0.1), (0.1, 0.5)]
    options = [rng.uniform(low, high, 1_000_000) for low, high in ranges]
    found = greeks(*options)
    begun = time.perf_counter()
    greeks(*options)
    spent = time.perf_counter() - begun
    for name, ours, theirs in zip(("delta", "gamma", "vega", "theta", "rho"), found, by_hand(*options), strict=True):
        print(f"{name}: mean {np.mean(ours):+.6f}, largest difference {np.max(np.abs(ours - theirs)):.0e}")
    print(f"five greeks of a million options: {spent * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
