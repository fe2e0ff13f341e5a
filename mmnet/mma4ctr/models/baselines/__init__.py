"""The paper's baselines, on the same labelled rows and splits.

| model | reads | trained by |
|---|---|---|
| lr | MMa4CTR's own rows of features | cross-entropy |
| bpr, lightgcn, ngcf | user and item numbers | pairs: a positive and a negative row of its user |
| fpmc | the same, and the last item taken | pairs |
| din, dien | the same, and the last items taken | cross-entropy (dien: and the next item taken) |
| bert4rec, gcsan | the last items taken | the item taken next, of all (bert4rec: and hidden ones) |

Sizes are RecBole's, as the authors' README lists them, and so are the numbers of parameters.
Differences: rows are the labelled ones, where RecBole was given exposures without labels and drew
its negatives at random; a history is what the user took strictly before the row (c1) or in the
support half (c2); and of BERT4Rec's holes, see `sequences.Cloze`.
"""
