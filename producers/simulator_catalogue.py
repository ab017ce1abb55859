"""The goods of the simulated shop: generated items with titles, brands and prices, and the kits they are bought in.

Shapes: I items (those listed later included), C categories, K kits, S slots of a kit, A alternatives of a slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rec.records import Item

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DAYPARTS = ("night", "morning", "midday", "afternoon", "evening")
COUNTRIES = ("BR", "CA", "DE", "FR", "IN", "JP")
NUM_TIERS = 3
NUM_SLOTS = 10
NUM_ALTERNATIVES = 2

BRANDS = (
    *("Alderly", "Brinmark", "Calvero", "Dunholm", "Estrela", "Fjellby", "Grovane", "Halvik"),
    *("Ibisco", "Jorvane", "Kestria", "Lumora", "Marenta", "Nordhus", "Olvera", "Pinecraft"),
)
BRANDS_PER_CATEGORY = 5

COLOURS = ("blue", "black", "sand", "olive", "white", "red", "grey", "navy", "plum", "mint")
# Kept back for what is listed later, so that a viewer recognises the new season by its titles.
NEW_COLOURS = ("coral", "teal", "lime", "amber", "lilac")


class Category(NamedTuple):
    """A department: its products are combined with colours into items; most visited in ``daypart``."""

    name: str
    base_price: float
    daypart: str
    products: tuple[str, ...]


def _category(name: str, base_price: float, daypart: str, products: str) -> Category:
    return Category(name, base_price, daypart, tuple(products.split(", ")))


CATEGORIES = (
    _category(
        "running",
        60,
        "morning",
        "Trail running shoe, Road running shoe, Running vest, Running shorts, Running socks, Running belt, "
        "Headband, Sports watch strap, Foam roller, Running cap",
    ),
    _category(
        "hiking",
        80,
        "morning",
        "Hiking boot, Day pack 22 l, Trekking pole, Rain jacket, Fleece pullover, Insulated bottle, Map case, "
        "Sun hat, Gaiters, Camp towel",
    ),
    _category(
        "cycling",
        55,
        "afternoon",
        "Cycling helmet, Cycling gloves, Handlebar bag, Bottle cage, Rear light, Floor pump, Cycling jersey, "
        "Chain lube set, Saddle cover, Bike lock",
    ),
    _category(
        "swimming",
        30,
        "morning",
        "Swim goggles, Swim cap, Swimsuit, Swim shorts, Kick board, Pull buoy, Microfibre towel, Pool "
        "sandals, Dry bag, Nose clip",
    ),
    _category(
        "camping",
        95,
        "afternoon",
        "Two-person tent, Sleeping bag, Sleeping mat, Camp stove, Head lamp, Folding chair, Mess kit, "
        "Lantern, Hammock, Cool box",
    ),
    _category(
        "coffee",
        35,
        "morning",
        "Pour-over dripper, Burr grinder, Gooseneck kettle, Espresso cup set, Moka pot, Milk frother, Coffee "
        "scale, Travel mug, Bean canister, French press",
    ),
    _category(
        "kitchen",
        45,
        "midday",
        "Chef's knife, Cutting board, Cast iron pan, Stock pot, Mixing bowl set, Oven glove, Salad spinner, "
        "Spice rack, Baking tray, Pepper mill",
    ),
    _category(
        "garden",
        40,
        "afternoon",
        "Pruning shears, Watering can, Raised bed, Garden gloves, Seed tray, Plant pot, Hand trowel, Kneeling "
        "pad, Hose reel, Bird feeder",
    ),
    _category(
        "bedding",
        65,
        "night",
        "Linen duvet cover, Pillowcase pair, Fitted sheet, Wool blanket, Memory foam pillow, Bedspread, "
        "Mattress topper, Sleep mask, Bed throw, Body pillow",
    ),
    _category(
        "lighting",
        50,
        "evening",
        "Desk lamp, Floor lamp, Pendant lamp, Bedside lamp, String lights, Wall light, Clip lamp, Candle "
        "holder, Lamp shade, Night light",
    ),
    _category(
        "audio",
        90,
        "evening",
        "Wireless headphones, In-ear buds, Bluetooth speaker, Record player, Headphone stand, Sound bar, Desk "
        "microphone, Portable radio, Speaker stand, Carrying case",
    ),
    _category(
        "photo",
        110,
        "afternoon",
        "Camera strap, Camera bag, Travel tripod, Lens pouch, Instant camera, Photo album, Memory card case, "
        "Lens cleaning kit, Ring light, Picture frame",
    ),
    _category(
        "home office",
        75,
        "midday",
        "Desk organiser, Laptop stand, Wireless mouse, Mechanical keyboard, Desk mat, Monitor arm, Notebook "
        "A5, Document tray, Cable box, Foot rest",
    ),
    _category(
        "board games",
        35,
        "evening",
        "Strategy game box, Card sleeve pack, Dice set, Chess set, Puzzle 1000 pieces, Game mat, Dominoes, "
        "Card shuffler, Dice tower, Backgammon set",
    ),
    _category(
        "pets",
        25,
        "midday",
        "Dog harness, Dog leash, Cat tree, Pet bed, Food bowl, Chew toy, Cat tunnel, Travel crate, Grooming "
        "brush, Treat pouch",
    ),
    _category(
        "baby",
        40,
        "night",
        "Baby carrier, Changing bag, Muslin cloth set, Baby bottle, Teething ring, Play mat, Stroller "
        "blanket, Baby bib, Night sleep sack, Bath seat",
    ),
)


class Catalogue(NamedTuple):
    """All items there will ever be, a category's side by side, so that a category is a slice.

    ``popularity_I`` is Zipf with exponent 0.8; ``late_I`` marks what is listed only at the drift; ``hot`` are those
    of them that start at the head of the popularity curve.
    """

    items: list[Item]
    slices: list[slice]
    category_I: IntArray
    brand_I: IntArray
    tier_I: IntArray
    popularity_I: FloatArray
    late_I: BoolArray
    hot: list[int]


def most_items() -> int:
    """How many distinct titles can be made for the start."""
    return min(len(category.products) for category in CATEGORIES) * len(COLOURS) * len(CATEGORIES)


def most_new_items() -> int:
    """How many distinct titles can be made for what is listed later."""
    return min(len(category.products) for category in CATEGORIES) * len(NEW_COLOURS) * len(CATEGORIES)


def build_catalogue(rng: np.random.Generator, num_items: int, num_new_items: int) -> Catalogue:
    """Generate titles, brands, price tiers and popularity; the same ``rng`` state gives the same goods."""
    old_C = _spread(num_items)
    new_C = _spread(num_new_items)
    num_all = num_items + num_new_items
    rank_I = rng.permutation(num_all) + 1
    late_I = np.zeros(num_all, bool)
    category_I = np.repeat(np.arange(len(CATEGORIES)), np.add(old_C, new_C))
    brand_I = np.zeros(num_all, np.int64)
    tier_I = rng.integers(0, NUM_TIERS, num_all)
    skus = iter(rng.permutation(9_000)[:num_all] + 1_000)
    items: list[Item] = []
    slices: list[slice] = []
    for c, category in enumerate(CATEGORIES):
        carried = rng.choice(len(BRANDS), BRANDS_PER_CATEGORY, replace=False)
        first = len(items)
        titles = _titles(rng, category, COLOURS, old_C[c]) + _titles(rng, category, NEW_COLOURS, new_C[c])
        for i, (product, colour) in enumerate(titles, start=first):
            brand_I[i] = rng.choice(carried)
            price = category.base_price * (0.6, 1.0, 1.9)[tier_I[i]] * rng.uniform(0.85, 1.15)
            items.append(
                Item(
                    item_id=f"sku-{next(skus)}",
                    title=f"{product}, {colour}",
                    categories=[category.name],
                    price=round(float(price), 1) - 0.01,
                    tags=[colour, ("value", "classic", "premium")[tier_I[i]]],
                    attributes={"brand": BRANDS[brand_I[i]], "product": product},
                )
            )
        slices.append(slice(first, len(items)))
        late_I[first + old_C[c] : len(items)] = True
    # A third of what is new starts at the head of the popularity curve: it is what becomes hot.
    hot = [int(i) for i in rng.permutation(np.flatnonzero(late_I))[: num_new_items // 3]]
    rank_I[hot] = 1 + np.arange(len(hot)) // 2
    popularity_I: FloatArray = rank_I.astype(np.float64) ** -0.8
    return Catalogue(items, slices, category_I, brand_I, tier_I, popularity_I, late_I, hot)


def _spread(num: int) -> list[int]:
    """Share ``num`` items evenly among the categories."""
    return [num // len(CATEGORIES) + (c < num % len(CATEGORIES)) for c in range(len(CATEGORIES))]


def _titles(rng: np.random.Generator, category: Category, colours: tuple[str, ...], num: int) -> list[tuple[str, str]]:
    pairs = [(product, colour) for colour in colours for product in category.products]
    return [pairs[j] for j in rng.permutation(len(pairs))[:num]]


class Kits(NamedTuple):
    """What people set out to get, slot by slot: a first tent, then mats, then the stove …

    One item belongs to several kits, so the last item alone does not tell the kit; the last few do.
    """

    slots_KSA: IntArray
    category_K: IntArray
    popularity_K: FloatArray


def draw_kits(rng: np.random.Generator, catalogue: Catalogue, listed_I: BoolArray, num_kits: int) -> Kits:
    """Draw kits from what is listed: half of the slots in the kit's own category, the others in two that go with it.

    The kits' own categories take turns, so that every category has its kits. The alternatives of a slot are
    drawn by popularity, without an item twice in one kit.
    """
    num_categories = len(CATEGORIES)
    turns = np.concatenate([rng.permutation(num_categories) for _ in range(-(-num_kits // num_categories))])
    slots_KSA = np.zeros((num_kits, NUM_SLOTS, NUM_ALTERNATIVES), np.int64)
    for k in range(num_kits):
        own = int(turns[k])
        others = rng.choice([c for c in range(num_categories) if c != own], 2, replace=False)
        rest_I = catalogue.popularity_I * listed_I
        slot_categories = rng.permutation([own] * (NUM_SLOTS // 2 - 1) + [int(others[s % 2]) for s in range(5)])
        for s, c in enumerate([own, *slot_categories]):
            weights = rest_I[catalogue.slices[c]]
            chosen = rng.choice(len(weights), NUM_ALTERNATIVES, replace=False, p=weights / weights.sum())
            slots_KSA[k, s] = chosen + catalogue.slices[c].start
            rest_I[slots_KSA[k, s]] = 0.0
    popularity_K: FloatArray = (rng.permutation(num_kits) + 2).astype(np.float64) ** -0.5
    return Kits(slots_KSA, turns[:num_kits], popularity_K)


class Shelf:
    """What is on sale now and what is in fashion now, moving with simulated time.

    Items sell out (popular ones more often) and come back; short bursts put a few items into everybody's view.
    """

    def __init__(self, rng: np.random.Generator, catalogue: Catalogue, start_s: float, day_s: float) -> None:
        self._rng = rng
        self._catalogue = catalogue
        self._day_s = day_s
        self.listed_I: BoolArray = ~catalogue.late_I
        self.on_sale_I: FloatArray = self.listed_I.astype(np.float64)
        self.trend_I: FloatArray = np.zeros(len(catalogue.items))
        self._back_s: dict[int, float] = {}
        self._cool_s: dict[int, float] = {}
        self.next_change_s = start_s
        self._next_sold_out_s = start_s + day_s / 24
        self._next_burst_s = start_s
        self._refresh_trend()

    def advance(self, now_s: float) -> list[int]:
        """Bring the shelf to simulated ``now_s`` and return the items whose availability changed.

        Effects, in order: sold-out items come back, one more sells out, bursts end, one more begins.
        """
        changed = [i for i, back_s in self._back_s.items() if back_s <= now_s]
        for i in changed:
            del self._back_s[i]
            self.on_sale_I[i] = 1.0
        if self._next_sold_out_s <= now_s:
            self._next_sold_out_s = now_s + self._rng.exponential(self._day_s / 12)
            i = self._pick_by_popularity()
            self.on_sale_I[i] = 0.0
            self._back_s[i] = now_s + self._rng.uniform(0.25, 0.75) * self._day_s
            changed.append(i)
        self._cool_s = {i: cool_s for i, cool_s in self._cool_s.items() if cool_s > now_s}
        if self._next_burst_s <= now_s:
            self._next_burst_s = now_s + self._rng.exponential(self._day_s / 6)
            listed = np.flatnonzero(self.on_sale_I)
            self.start_burst([int(self._rng.choice(listed))], now_s + self._rng.uniform(0.15, 0.4) * self._day_s)
        self._refresh_trend()
        pending = [*self._back_s.values(), *self._cool_s.values(), self._next_sold_out_s, self._next_burst_s]
        self.next_change_s = min(pending)
        return changed

    def start_burst(self, items: list[int], until_s: float) -> None:
        """Put ``items`` into fashion until simulated ``until_s``; felt from the next refresh on."""
        self._cool_s.update(dict.fromkeys(items, until_s))
        self.next_change_s = 0.0

    def list_and_retire(self, listed: IntArray, retired: IntArray) -> None:
        """Put new items on sale and take others away for good."""
        for i in retired:
            self._back_s.pop(int(i), None)
            self._cool_s.pop(int(i), None)
        self.listed_I[listed] = True
        self.listed_I[retired] = False
        self.on_sale_I[listed] = 1.0
        self.on_sale_I[retired] = 0.0
        self._refresh_trend()

    def _pick_by_popularity(self) -> int:
        weights_I = self._catalogue.popularity_I * self.on_sale_I
        return int(self._rng.choice(len(weights_I), p=weights_I / weights_I.sum()))

    def _refresh_trend(self) -> None:
        self.trend_I = self._catalogue.popularity_I.copy()
        for i in self._cool_s:
            self.trend_I[i] += 6.0
        self.trend_I *= self.on_sale_I
