"""Logs in the publishers' exact layouts whose click probabilities are known.

The probability of a positive is planted:

    P(y = 1 | user, item) = rate · g_user · exp(taste[user, topic of item] + appeal[item]) / norm

with g_user ~ Gamma(r, 1/r) (r = `user_dispersion`; 0 makes all users alike). With `taste_sd` and
`item_sd` at 0, items carry no information. Exposures follow the topics that users prefer, whatever
they click. An item's texts and vectors reveal its topic. So a score can be split into what a method
learned about users, items and taste, and what it gained from a leak.

The irregularities of the real files are included: empty texts whose other column is filled, both
empty, ids written as floats, repeated rows, a pair with both labels, users with several devices,
users with few rows, items without any row, vectors that are too short or empty, items that lack a
modality.
"""

from mmnet.mma4ctr.data.generator.tiktok_files import tiktok_files
from mmnet.mma4ctr.data.generator.truth import TRUTH, Truth
from mmnet.mma4ctr.data.generator.wechat_files import ACTIONS, RATES, wechat_files

__all__ = [
    "ACTIONS",
    "RATES",
    "TRUTH",
    "Truth",
    "tiktok_files",
    "wechat_files",
]
