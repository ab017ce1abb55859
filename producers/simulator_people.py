"""The people of the simulated shop: what each likes, where each stands, and the probability of what each does next.

The distribution that people act by is the one that the oracle reads: there is no second description of it.
Shapes: U people, I items, C categories, B brands, D dayparts, K kits, S slots of a kit, A alternatives of a slot.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from producers.simulator_catalogue import (
    BRANDS,
    CATEGORIES,
    COUNTRIES,
    DAYPARTS,
    NUM_SLOTS,
    NUM_TIERS,
    Catalogue,
    FloatArray,
    IntArray,
    Kits,
    Shelf,
)

DEVICES = ("mobile", "desktop", "tablet")
DAYPART_OF_HOUR = tuple([0] * 6 + [1] * 5 + [2] * 3 + [3] * 4 + [4] * 6)

# Visits by daypart for the three kinds of people: early birds, day people, night owls.
VISITS_BY_DAYPART = ((0.02, 0.48, 0.20, 0.15, 0.15), (0.03, 0.15, 0.27, 0.30, 0.25), (0.15, 0.05, 0.10, 0.20, 0.50))
# The next slot of a kit is the likeliest; one or two are sometimes skipped.
SKIP = np.array([0.64, 0.24, 0.12])
# Another event on the same item after one of this type: (type, probability).
FOLLOW_UPS: dict[str, tuple[tuple[str, float], ...]] = {
    "view": (("like", 0.05), ("cart", 0.10)),
    "click": (("like", 0.08), ("cart", 0.14)),
    "like": (("cart", 0.25),),
    "cart": (("purchase", 0.45),),
    "purchase": (),
}
END_OF_SESSION = {"view": 0.13, "click": 0.13, "like": 0.15, "cart": 0.20, "purchase": 0.50}
MOBILE_ENDS_SOONER = 1.35


class Move(IntEnum):
    """What leads a person to the next item."""

    KIT = 0  # the next slot of the kit in hand
    START = 1  # the first slot of a kit, by taste and time of day
    BROWSE = 2  # another item of the same category
    TASTE = 3  # anything, by taste and time of day
    TREND = 4  # what is popular or in a burst


IN_SESSION = ((Move.KIT, 0.66), (Move.BROWSE, 0.16), (Move.TASTE, 0.09), (Move.TREND, 0.09))
FIRST_OF_SESSION = ((Move.KIT, 0.45), (Move.START, 0.38), (Move.TASTE, 0.09), (Move.TREND, 0.08))
# A move that leads nowhere (no kit in hand, everything seen or sold out) gives way to the next one.
INSTEAD = {Move.KIT: Move.START, Move.START: Move.TASTE, Move.BROWSE: Move.TASTE, Move.TREND: Move.TASTE}


class Choice:
    """Items that can come next and their unnormalised weights; ``kits`` says where each leads, if into a kit."""

    __slots__ = ("items", "kits", "weights")

    def __init__(self, items: IntArray, weights: FloatArray, kits: tuple[int, int] | None = None) -> None:
        self.items = items
        self.weights = weights
        self.kits = kits


class People:
    """A constant number of people: who leaves for good makes room for somebody new with a new id."""

    def __init__(self, seed: int, num_users: int, catalogue: Catalogue, kits: Kits, shelf: Shelf) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._draw = random.Random(f"people {seed}").random
        self._catalogue = catalogue
        self._shelf = shelf
        self.kits = kits
        num_all = len(catalogue.items)
        self._every_I: IntArray = np.arange(num_all)
        self._prior_C: FloatArray = self._rng.permutation(np.arange(1, len(CATEGORIES) + 1)) ** -0.6
        self._brand_prior_country: FloatArray = self._rng.gamma(1.0, 1.0, (len(COUNTRIES), len(BRANDS)))
        daypart_C = np.array([DAYPARTS.index(category.daypart) for category in CATEGORIES])
        self._day_DC: FloatArray = np.where(np.arange(len(DAYPARTS))[:, None] == daypart_C, 3.5, 0.7)
        self._day_DI: FloatArray = self._day_DC[:, catalogue.category_I]
        self.taste_UC: FloatArray = np.zeros((num_users, len(CATEGORIES)))
        self._brand_UB: FloatArray = np.zeros((num_users, len(BRANDS)))
        self._level_U: IntArray = np.zeros(num_users, np.int64)
        # What a person would still look at, by taste; zero where it has been seen.
        self.open_UI: FloatArray = np.zeros((num_users, num_all))
        self.user_id = [""] * num_users
        self.place_of: dict[str, int] = {}
        self.num_people = 0
        self.country = [""] * num_users
        self.main_device = [""] * num_users
        self.habit = [0] * num_users
        self.device = [""] * num_users
        self.num_sessions = [0] * num_users
        self.num_seen = [0] * num_users
        self.kit = [-1] * num_users
        self.kit_slot = [0] * num_users
        self.last_item = [-1] * num_users
        self.last_type = [""] * num_users
        for u in range(num_users):
            self.arrive(u)

    def arrive(self, u: int) -> None:
        """Somebody new takes place ``u``: three favourite categories, a few loved brands, a price level."""
        rng = self._rng
        self.place_of.pop(self.user_id[u], None)
        self.num_people += 1
        self.user_id[u] = f"user-{self.num_people:05d}"
        self.place_of[self.user_id[u]] = u
        country = int(rng.integers(len(COUNTRIES)))
        self.country[u] = COUNTRIES[country]
        self.main_device[u] = DEVICES[int(rng.choice(3, p=(0.6, 0.3, 0.1)))]
        self.habit[u] = int(rng.integers(3))
        taste_C = np.full(len(CATEGORIES), 0.015)
        favourites = rng.choice(len(CATEGORIES), 3, replace=False, p=self._prior_C / self._prior_C.sum())
        taste_C[favourites] += (1.0, 0.6, 0.35)
        self.taste_UC[u] = taste_C
        loved = rng.gamma(0.5, 1.0, len(BRANDS)) * self._brand_prior_country[country]
        self._brand_UB[u] = 0.12 + np.minimum(loved, 2.5)
        self._level_U[u] = rng.integers(NUM_TIERS)
        self.num_sessions[u] = self.num_seen[u] = 0
        self.kit[u] = self.last_item[u] = -1
        self.last_type[u] = ""
        self.open_UI[u] = self._fit(u)

    def begin_midway(self, u: int, daypart: int) -> None:
        """Place ``u`` in a session with a kit in hand, somewhere on the way through it, nothing seen yet."""
        _, choice = self._choose(u, Move.START, daypart)
        self.kit[u] = self._pick(choice) // self.kits.slots_KSA.shape[2]
        self.kit_slot[u] = int(self._draw() * (NUM_SLOTS - 1))
        self.num_sessions[u] = 1

    def _fit(self, u: int) -> FloatArray:
        goods = self._catalogue
        tier_fit = 0.25 ** np.abs(np.arange(NUM_TIERS) - self._level_U[u])
        fit_I: FloatArray = self.taste_UC[u, goods.category_I] * self._brand_UB[u, goods.brand_I]
        fit_I *= tier_fit[goods.tier_I] * goods.popularity_I
        return fit_I

    def swap_tastes(self, permutation_C: IntArray, kits: Kits, redrawn_K: IntArray) -> None:
        """Everybody who liked category ``c`` now likes ``permutation_C[c]``, newcomers too; some kits are new.

        A kit in hand that was redrawn is dropped. What has been seen stays seen.
        """
        # position permutation[c] receives what stood at c
        source_C = np.argsort(permutation_C)
        self._prior_C = self._prior_C[source_C]
        self.taste_UC = self.taste_UC[:, source_C]
        self.kits = kits
        redrawn = {int(k) for k in redrawn_K}
        for u in range(len(self.user_id)):
            seen_I = self.open_UI[u] == 0.0
            self.open_UI[u] = self._fit(u)
            self.open_UI[u, seen_I] = 0.0
            if self.kit[u] in redrawn:
                self.kit[u] = -1

    def go(self, u: int, daypart: int, *, first: bool) -> int:
        """Draw the next item of ``u`` and take it: it is seen from now on, and the place in the kit moves."""
        _, choice = self._choose(u, self._move(first=first), daypart)
        n = self._pick(choice)
        i = int(choice.items[n])
        if choice.kits is not None:
            k, s = choice.kits
            num_alternatives = self.kits.slots_KSA.shape[2]
            self.kit[u], self.kit_slot[u] = (n // num_alternatives, 0) if k < 0 else (k, s + n // num_alternatives)
            if self.kit_slot[u] >= NUM_SLOTS - 1:
                self.kit[u] = -1
        self.open_UI[u, i] = 0.0
        self.num_seen[u] += 1
        self.last_item[u] = i
        return i

    def _pick(self, choice: Choice) -> int:
        cumulative = choice.weights.cumsum()
        # Strictly below the total: a product that rounds up to it would fall on an item of weight zero.
        target = min(self._draw() * cumulative[-1], math.nextafter(cumulative[-1], 0.0))
        return int(cumulative.searchsorted(target, side="right"))

    def _move(self, *, first: bool) -> Move:
        r = self._draw()
        for move, probability in FIRST_OF_SESSION if first else IN_SESSION:
            r -= probability
            if r < 0.0:
                return move
        return Move.TASTE  # the probabilities add up to one but for rounding

    def _choose(self, u: int, move: Move, daypart: int) -> tuple[Move, Choice]:
        """The choice behind ``move``, or behind what people do instead where it leads nowhere."""
        while True:
            choice = self._choice(u, move, daypart)
            if choice is not None and choice.weights.any():
                return move, choice
            assert move is not Move.TASTE, "a person leaves long before everything is seen"
            move = INSTEAD[move]

    def _choice(self, u: int, move: Move, daypart: int) -> Choice | None:
        open_I = self.open_UI[u]
        on_sale_I = self._shelf.on_sale_I
        if move is Move.KIT:
            k, after = self.kit[u], self.kit_slot[u] + 1
            if k < 0:
                return None
            items_SA = self.kits.slots_KSA[k, after : after + len(SKIP)]
            weights_SA = _by_row(open_I[items_SA] * on_sale_I[items_SA], SKIP[: len(items_SA)])
            return Choice(items_SA.ravel(), weights_SA.ravel(), (k, after))
        if move is Move.START:
            items_KA = self.kits.slots_KSA[:, 0]
            category_K = self.kits.category_K
            wish_K = self.taste_UC[u, category_K] * self._day_DC[daypart, category_K] * self.kits.popularity_K
            weights_KA = _by_row(open_I[items_KA] * on_sale_I[items_KA], wish_K)
            return Choice(items_KA.ravel(), weights_KA.ravel(), (-1, 0))
        if move is Move.BROWSE:
            if self.last_item[u] < 0:
                return None
            near = self._catalogue.slices[self._catalogue.category_I[self.last_item[u]]]
            return Choice(self._every_I[near], open_I[near] * on_sale_I[near])
        if move is Move.TASTE:
            return Choice(self._every_I, open_I * on_sale_I * self._day_DI[daypart])
        return Choice(self._every_I, self._shelf.trend_I * (open_I > 0.0))

    def next_new_item(self, u: int, share_D: Sequence[float], *, first: bool) -> FloatArray:
        """Probability (I,) of the next item that ``u`` has not seen.

        ``first`` says whether a session begins with it, ``share_D`` how probable each daypart is for it.
        """
        probability_I = np.zeros(len(self._every_I))
        for move, weight in FIRST_OF_SESSION if first else IN_SESSION:
            for daypart, share in enumerate(share_D):
                if not share:
                    continue
                taken, choice = self._choose(u, move, daypart)
                by_daypart = taken in (Move.START, Move.TASTE)
                scale = (weight * share if by_daypart else weight) / choice.weights.sum()
                if choice.items is self._every_I:
                    probability_I += scale * choice.weights
                else:
                    # An item can open several kits: unlike `+=`, this adds up what falls on the same item.
                    np.add.at(probability_I, choice.items, scale * choice.weights)
                if not by_daypart:
                    break
        return probability_I

    def end_of_session(self, u: int) -> float:
        """Probability that the session of ``u`` ends here, given no further event on the same item."""
        sooner = MOBILE_ENDS_SOONER if self.device[u] == "mobile" else 1.0
        return min(1.0, END_OF_SESSION[self.last_type[u]] * sooner)


def _by_row(weights_RA: FloatArray, wish_R: FloatArray) -> FloatArray:
    """Share the wish for each row among what is left in it; a row with nothing left gets nothing."""
    total_R = weights_RA.sum(axis=1)
    share_R = wish_R / np.where(total_R > 0.0, total_R, 1.0)
    return weights_RA * share_R[:, None]
