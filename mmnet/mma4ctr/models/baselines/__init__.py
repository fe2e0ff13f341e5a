"""The paper's baselines, on the same labelled rows and splits, or on RecBole's.

| model | reads | trained by |
|---|---|---|
| lr | MMa4CTR's own rows of features | cross-entropy |
| bpr, lightgcn, ngcf | user and item numbers | pairs: a positive row, an item not taken |
| fpmc | the same, and the last item taken | pairs |
| din, dien | the same, and the last items taken | cross-entropy (dien: and the next item taken) |
| bert4rec, gcsan | the last items taken | the item taken next, of all (bert4rec: and hidden ones) |

Each is what its paper defines, in the sizes of the authors' README; `models.deviations` names what
RecBole, which the authors used, does otherwise. A history is what the user took strictly before the
row (c1), in the support half (c2), or was shown before the row (recbole).
"""
