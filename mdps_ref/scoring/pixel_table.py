"""Pixel metrics of any number of images in bounded memory: a table that counts pixels by the value of their anomaly map."""

import numpy as np

from mdps_ref.posterior.quantile import keys_of, values_of
from mdps_ref.scoring.curves import region_shares, shares_of_total
from mdps_ref.scoring.metrics import area_under

MOST_ROWS = 2**18
AT_ONCE = 2**18  # pixels that are collected before they are sorted into the table
ALL, ANOMALOUS, NORMAL, OVERLAP = range(4)  # the columns


class PixelTable:
    """Counts of pixels by map value, from which AUROC and AUPRO follow.

    A row is a distinct value. When the table outgrows MOST_ROWS, values are rounded to one bit less, as often as needed, so that the
    table stays small. The metrics of rounded values are off by at most `auroc_error` and `aupro_error`, which are 0 without rounding.

    Notes
    -----
    In what order the images come does not matter, except for the rounding of sums.
    """

    def __init__(self):
        self._keys, self._sums = np.empty(0, np.uint32), np.empty((0, 4))
        self._waiting, self._pixels, self._bits = [], 0, 0

    def add(self, anomaly, truths):
        """Count the pixels of some images.

        Parameters
        ----------
        anomaly : array, (N, H, W) float32
        truths : sequence of array, (H, W) bool, or None, N
            True masks; the pixels of an image with None are neither anomalous nor normal.
        """
        for values, truth in zip(anomaly, truths, strict=True):
            columns = np.zeros((values.size, 4))
            columns[:, ALL] = 1
            if truth is not None:
                columns[:, ANOMALOUS], columns[:, NORMAL] = truth.ravel(), ~truth.ravel()
                columns[:, OVERLAP] = region_shares(truth[None]).ravel()
            self._waiting.append((keys_of(np.asarray(values, np.float32)), columns))
            self._pixels += values.size
            if self._pixels >= AT_ONCE:
                self._sort_in()

    def _sort_in(self):
        """Bring the waiting pixels into the table."""
        if not self._waiting:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        sums = np.concatenate([self._sums, *(columns for _, columns in self._waiting)])
        self._waiting, self._pixels = [], 0
        while True:
            self._keys, rows = np.unique(keys >> self._bits << self._bits, return_inverse=True)
            if len(self._keys) <= MOST_ROWS:
                break
            self._bits += 1
        self._sums = np.stack([np.bincount(rows, column, len(self._keys)) for column in sums.T], axis=1)

    def _running_sums(self, *columns):
        """Return for each column its sums over the rows from the highest value down, 0 first."""
        self._sort_in()
        return [np.append(0, np.cumsum(self._sums[::-1, column])) for column in columns]

    def roc_curve(self):
        """Return false and true positive rates of single pixels, as `curves.roc_curve`; nan where a class is missing."""
        return tuple(map(shares_of_total, self._running_sums(NORMAL, ANOMALOUS)))

    def pro_curve(self):
        """Return false positive rates and mean per-region overlaps, as `curves.pro_curve`; nan where a class is missing."""
        return tuple(map(shares_of_total, self._running_sums(NORMAL, OVERLAP)))

    def auroc(self):
        """Return the AUROC of single pixels (E21); nan if a class is missing."""
        return area_under(*self.roc_curve(), 1.0)

    def aupro(self, limit=0.3):
        """Return the AUPRO (E23) up to a false positive rate; nan if a class is missing."""
        return area_under(*self.pro_curve(), limit)

    @property
    def normal(self):
        """The number of normal pixels."""
        return self._total(NORMAL)

    @property
    def anomalous(self):
        """The number of anomalous pixels."""
        return self._total(ANOMALOUS)

    def _total(self, column):
        self._sort_in()
        return int(self._sums[:, column].sum())

    @property
    def auroc_error(self):
        """The largest error of `auroc` through rounded values: in each row the true curve may take either side of the chord."""
        return self._error(*self.roc_curve(), 1.0)

    def aupro_error(self, limit=0.3):
        """Return the largest error of `aupro` through rounded values."""
        return self._error(*self.pro_curve(), limit)

    def _error(self, x, y, limit):
        touched = x[:-1] < limit
        return float(np.sum((np.diff(x) * np.diff(y))[touched]) / 2 / limit) if self._bits else 0.0

    def quantile(self, share):
        """Return the smallest value that at least this share of all pixels does not exceed; nan without pixels."""
        self._sort_in()
        if not len(self._keys):
            return float("nan")
        counts = np.cumsum(self._sums[:, ALL])
        return float(values_of(self._keys[np.searchsorted(counts, share * counts[-1])][None])[0])

    def bins(self, most):
        """Cut the values into bins: half of the cuts are quantiles of the normal pixels, half of the anomalous ones.

        Parameters
        ----------
        most : int
            The largest number of bins.

        Returns
        -------
        edges : array, (bins) float32
            The largest value of each bin, ascending.
        mixed : bool array, (bins)
            Where a bin holds several distinct values.
        """
        self._sort_in()
        shares, last = np.arange(1, most // 2 + 1) / (most // 2), len(self._keys) - 1
        sums = (np.cumsum(self._sums[:, column]) for column in (NORMAL, ANOMALOUS))
        rows = [np.searchsorted(sum_, shares * sum_[-1]).clip(max=last) for sum_ in sums if sum_[-1]]
        rows = np.unique(np.concatenate([*rows, [last]]))
        return values_of(self._keys[rows] | self._keys.dtype.type((1 << self._bits) - 1)), (np.diff(rows, prepend=-1) > 1) | (
            self._bits > 0
        )
