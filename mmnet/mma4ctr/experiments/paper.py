"""The second paper's own numbers: every result in the README of MMa4CTR's authors.

Huo, Jin and Liao (2024), "Multi-modal information augmented model for micro-video recommendation",
J. Zhejiang Univ. (Eng. Sci.) 58(6), 1142-1152; the README of its code has the numbers, sections 4
to 6. They were measured on contest logs that may not be redistributed, each by one run, and models
were chosen on test rows; so they are a shape to compare with, not digits to reproduce.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

DATASETS = {"wechat": "WeChat", "tiktok": "TikTok like"}
UNITS = {
    "auc": "AUC on the test rows",
    "log_loss": "LogLoss on the test rows, in nats",
    "columns": "number of features of a row",
    "train_seconds": "seconds of training, on an RTX 3090",
    "test_seconds": "seconds of testing, on an RTX 3090",
    "parameters": "number of trainable parameters",
}
CONSTANT = "constant learning rate; batches of 8192, rate 0.001, except where the row differs"
HALVING = "rate 0.001, halved every 5 epochs; batches of 8192"
PROTOCOLS = {
    "epochs": CONSTANT,
    "learning_rate": CONSTANT,
    "batch_size": CONSTANT,
    "fusion": HALVING,
    "length": HALVING,
    "interrupt": "batches of 8192, rate 0.001; the README does not state the number of epochs",
    "columns": "counted, not measured",
    "comparison": f"MMa4CTR: {HALVING}; the others are RecBole 1.1.1's",
    "by_epoch": f"MMa4CTR: {HALVING}; the others are RecBole 1.1.1's",
    "cost": "one run; the README does not state the number of epochs",
}
TITLES = {
    "epochs": "epochs",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "fusion": "modalities",
    "length": "length of the user embedding",
    "interrupt": "validation interrupt and halving rate, with and without",
    "columns": "columns",
    "comparison": "comparison",
    "by_epoch": "comparison, the table by epoch",
    "cost": "cost",
}
FUSIONS = {
    "1": "two, side by side",
    "2": "two, multiplied",
    "3": "three, multiplied",
    "4": "one alone",
}
"""Subject of the tables of modalities, by the last number of their section."""
NOTES = {
    ("wechat", "epochs", "auc"): "The README gives the same digits at epochs 90 and 95.",
    ("wechat", "by_epoch", "auc"): "For one model and epoch, the README's two tables of AUC differ "
    "by up to .30.",
    ("tiktok", "comparison", "auc"): "The README's cells of NGCF and GCSAN are empty.",
    ("tiktok", "comparison", "log_loss"): "The README has BERT4Rec's LogLoss under epochs 10 and "
    "20, and its AUC under epochs 10 and 30.",
}
"""Remarks on tables of the README, by dataset, kind and metric."""


@dataclass(frozen=True)
class Table:
    """One table of the README, or one quantity of a table that has several.

    Attributes:
        section: its number in the README.
        dataset: a key of `DATASETS`.
        kind: what its rows vary, a key of `TITLES` and `PROTOCOLS`.
        metric: what is measured, a key of `UNITS`.
        epochs: the epoch of each value of a row; empty where there is one value and no epoch.
        rows: name of the row's flagfile -> its values; None where the README's cell is empty.
    """

    section: str
    dataset: str
    kind: str
    metric: str
    epochs: tuple[int, ...]
    rows: dict[str, tuple[float | None, ...]]

    @property
    def title(self) -> str:
        """Section, dataset and subject."""
        more = "" if self.metric in ("auc", self.kind) else f", {self.metric.replace('_', ' ')}"
        if self.kind == "fusion":
            more = f", {FUSIONS[self.section[-1]]}"
        return f"{self.section} {DATASETS[self.dataset]}: {TITLES[self.kind]}{more}"

    @property
    def note(self) -> str:
        """Remark on this table; may be empty."""
        return NOTES.get((self.dataset, self.kind, self.metric), "")

    def at(self, row: str, epoch: int | None = None) -> float | None:
        """Return a value; `epoch` is None where the table has no epochs."""
        return self.rows[row][self.epochs.index(epoch) if epoch is not None else 0]


PUBLISHED = """
4.1.1 wechat epochs auc @ 5 10 15 20 25 30 35 40 45 50 55 60 65 70 75 80 85 90 95 100
vat_concat 0.945460024418023 0.9517885227306362 0.940094171008244 0.9332946151885952
vat_concat 0.9303479920771285 0.9302333722455105 0.9454909968123039 0.931314721874389
vat_concat 0.9436334450978896 0.9191246774372999 0.9043831338203693 0.9179239438039649
vat_concat 0.950838422077388 0.9412803176153527 0.9510260709268231 0.9179849675147189
vat_concat 0.9105302167006715 0.9165578019242125 0.9165578019242125 0.9099362888635572

4.1.2 wechat learning_rate auc @ 10 30
learning_rate_1e-2 0.50 0.7433700177013759
learning_rate_5e-3 0.5003212664049789 0.50
learning_rate_2e-3 0.9178128989138242 0.9329537409609425
learning_rate_1e-3 0.952164271415028 0.9406701855950172
learning_rate_5e-4 0.9479440665078159 0.9435869902948786
learning_rate_2e-4 0.9470969901862731 0.9516189673280946
learning_rate_1e-4 0.9427243119826154 0.9485197599032935
learning_rate_5e-5 0.9473557290463805 0.9453024031663192
learning_rate_2e-5 0.9494794050441399 0.9426944178028069
learning_rate_1e-5 0.9443388322442728 0.9489048386183262

4.1.3 wechat batch_size auc @ 10 30
batch_size_32768 0.9455507298281898 0.9521014180668835
batch_size_16384 0.9489413147489928 0.9526058415845631
batch_size_8192 0.9421495409826534 0.9204879061943578
batch_size_4096 0.9356626120162714 0.9380819045762812
batch_size_2048 0.9028231356987881 0.921970903067719
batch_size_1024 0.8968900996392982 0.9094429884475153
batch_size_512 0.8677431554029484 0.9166537300695596
batch_size_256 0.8976556740813587 0.900815323448885
batch_size_128 0.8892057843470222 0.6139191381470472
batch_size_64 0.7942007641962512 0.7480759458748958

4.1 wechat columns columns @
vat_concat 194

4.2.1 tiktok epochs auc @ 5 10 15 20 25 30 35 40 45 50 55 60 65 70 75 80 85 90 95 100
vat_concat 0.8919237827653452 0.8924156054410297 0.8898916309110074 0.8887982075041272
vat_concat 0.8811722433496609 0.8878198213523519 0.8624564145928819 0.8839217041282715
vat_concat 0.892258330682395 0.8811387045093966 0.8910089502177834 0.8875505918175111
vat_concat 0.8852166390732102 0.8843582388074401 0.8707360641209556 0.8727951748528887
vat_concat 0.8785564537866188 0.8652849773950988 0.8631421800847775 0.8732818181066146

4.2.2 tiktok learning_rate auc @ 10 30
learning_rate_1e-2 0.7025513378399374 0.5
learning_rate_5e-3 0.851888848528819 0.5
learning_rate_2e-3 0.8938259264063324 0.891967135060601
learning_rate_1e-3 0.8899793012138245 0.8843747178047459
learning_rate_5e-4 0.8871947126500858 0.8888243789200523
learning_rate_2e-4 0.8898606120770207 0.8867022735108548
learning_rate_1e-4 0.8909920911888324 0.8908740415624474
learning_rate_5e-5 0.8893171449058381 0.8924454166511333
learning_rate_2e-5 0.8902644893379209 0.8892847165057919
learning_rate_1e-5 0.892661124901457 0.889038190880157

4.2.3 tiktok batch_size auc @ 10 30
batch_size_32768 0.8937748569544772 0.8856265634788756
batch_size_16384 0.8892840004410765 0.8809282957504021
batch_size_8192 0.8883746059884121 0.8885827916106332
batch_size_4096 0.888349772419258 0.8889139816144829
batch_size_2048 0.8770224056059608 0.890411599619969
batch_size_1024 0.8766193833356783 0.8725818720191482
batch_size_512 0.8759438430803062 0.8383831920604533
batch_size_256 0.8549247883787177 0.8789210306503084
batch_size_128 0.871308732163039 0.6802240806085553
batch_size_64 0.6643586901651264 0.6130949017628576

4.2 tiktok columns columns @
vat_concat 169

5.1.1 wechat fusion auc @ 10 30
va_concat 0.9448939390895489 0.9497949740096747
vt_concat 0.9520634193247621 0.9517589586366516
at_concat 0.9513680655356005 0.9469269811627941

5.1.2 wechat fusion auc @ 10 30
va_cross 0.9459119105931197 0.9439084731333766
vt_cross 0.951661220290105 0.9503867671600241
at_cross 0.9516077085025452 0.9525714003242896

5.1.3 wechat fusion auc @ 10 30
vat_cross 0.951278614912762 0.9499676444736435

5.1.4 wechat fusion auc @ 10 30
visual 0.9472118047092303 0.9466316301186815
acoustic 0.9442278562043687 0.9429589058223927
textual 0.8862324331783548 0.8935200933624496

5.1.5 wechat length auc @ 10 30
length_0 0.6162375743342403 0.621318420047907
length_5 0.9499813423764779 0.9512949604201534
length_11 0.9511351517733696 0.9418210202663709
length_15 0.9453357365636931 0.9484451180110319
length_21 0.9527299209116211 0.940642049566947
length_30 0.9478221001253427 0.9456434582493786

5.1.6 wechat interrupt auc @
interrupt_as_meant 0.9483886193091363
interrupt_off 0.9016327111530487

5.1 wechat columns columns @
va_concat 172
vt_concat 172
at_concat 172
va_cross 172
vt_cross 117
at_cross 117
vat_cross 139
length_0 129
length_5 146
length_11 164
length_15 176
length_21 194
length_30 221

5.2.1 tiktok fusion auc @ 10 30
va_concat 0.8886791505843656 0.8880425237643812
vt_concat 0.888935155404758 0.8880141917444553
at_concat 0.888637093104308 0.8907652737013179

5.2.2 tiktok fusion auc @ 10 30
va_cross 0.8915278258925563 0.8921931320472225
vt_cross 0.889746197409806 0.8912906610039774
at_cross 0.893817758304634 0.8932477960943104

5.2.3 tiktok fusion auc @ 10 30
vat_cross 0.8911525498003717 0.8942150533465278

5.2.4 tiktok fusion auc @ 10 30
visual 0.8821479378078083 0.8873140938688661
acoustic 0.8868338550087214 0.8873125659659982
textual 0.8942832033403586 0.8933923393578772

5.2.5 tiktok length auc @ 10 30
length_0 0.5761963427453821 0.5783002540186957
length_5 0.8910880922107908 0.8902739912572171
length_11 0.8895959543647738 0.8884687634217409
length_15 0.8900106870249341 0.8880963353105578
length_21 0.8895607898335833 0.8910121877392787
length_30 0.8891491617321927 0.8875773363430756

5.2.6 tiktok interrupt auc @
interrupt_as_meant 0.888649536964931
interrupt_off 0.8769545378850909

5.2 tiktok columns columns @
va_concat 125
vt_concat 137
at_concat 76
va_cross 54
vt_cross 66
at_cross 54
vat_cross 76
length_0 104
length_5 121
length_11 139
length_15 151
length_21 169
length_30 196

6.1 wechat comparison auc @ 10 20 30 50
bpr 0.7365 0.7713 0.7763 0.7755
fpmc 0.8174 0.8438 0.8473 0.8467
ngcf 0.7196 0.7648 0.7754 0.7816
lightgcn 0.7113 0.7615 0.7729 0.7817
bert4rec 0.9022 0.9022 0.9023 0.9022
gcsan 0.8991 0.9087 0.9079 -
din 0.9024 0.9020 0.9029 0.9031
dien 0.9013 0.9014 0.8992 0.9000
mma4ctr 0.9475831601555518 0.9517740318970852 0.9523486006288877 0.9513642267231205

6.1 wechat comparison log_loss @ 10 20 30 50
bpr 18.0170 17.4122 17.2362 16.9897
fpmc 17.1369 17.1292 17.1779 17.1611
ngcf 15.8703 16.7471 17.0796 17.2763
lightgcn 21.7398 20.5728 20.366 20.4267
bert4rec 16.3755 16.2804 16.2741 16.2775
gcsan 15.6458 16.6468 16.8030 -
din 0.6474 0.6171 0.6714 0.5927
dien 0.6567 0.6564 0.5939 0.5947
mma4ctr 1.393633134988851 1.4321310928158022 1.4718578852987794 1.4773581285335016

6.1 wechat by_epoch auc @ 10 20 30 40 50 60 70 80 90 100
bpr 0.5113 0.5981 0.6386 0.6607 0.6716 0.6775 0.6812 0.6818 0.6818 0.6815
fpmc 0.5204 0.6338 0.6761 0.6943 0.7038 0.7078 0.7107 0.7103 0.7106 0.7105
ngcf 0.6112 0.6159 0.6310 0.6429 0.6612 0.6722 0.6843 0.6891 0.6948 0.6959
lightgcn 0.5068 0.5663 0.6110 0.6489 0.6744 0.6878 0.6961 0.6999 0.7024 0.7040
bert4rec 0.7478 0.7566 0.7716 0.7714 0.7714 0.7714 0.7715 0.7714 0.7715 0.7713
gcsan 0.7445 0.7508 0.7534 0.7823 0.7834 0.7891 0.7891 0.7890 0.7892 0.7903
din 0.8324 0.8436 0.8498 0.8498 0.8494 0.8525 0.8523 0.8523 0.8509 0.8521
dien 0.7972 0.7987 0.8028 0.8027 0.8027 0.8028 0.8026 0.8027 0.8029 0.8027
mma4ctr 0.9527299209116211 0.9421524906717417 0.940642049566947 0.942112964706188
mma4ctr 0.9468996222529457 0.9498167296961924 0.9436186037540427 0.9527255952060796
mma4ctr 0.9507852430110678 0.9446970198357546

6.1 wechat cost train_seconds @
bpr 54.77
fpmc 62.43
ngcf 126.54
lightgcn 91.54
bert4rec 471.41
gcsan 4756.09
din 170.44
dien 643.73
mma4ctr 180.78

6.1 wechat cost test_seconds @
bpr 45
fpmc 48
ngcf 109
lightgcn 79
bert4rec 317
gcsan 4385
din 108
dien 243
mma4ctr 17

6.1 wechat cost parameters @
bpr 7460224
fpmc 19820544
ngcf 7485184
lightgcn 7460224
bert4rec 6915904
gcsan 6908032
din 1449310
dien 1587847
mma4ctr 29225

6.2 tiktok comparison auc @ 10 20 30 50
bpr 0.3805 0.3805 0.3828 0.3897
fpmc 0.4015 0.4070 0.4133 0.4273
ngcf - - - -
lightgcn 0.3863 0.3862 0.3862 0.3862
bert4rec 0.4838 - 0.4838 -
gcsan - - - -
din 0.5087 0.5469 0.5480 0.5702
dien 0.5788 0.5787 0.5787 0.5788
mma4ctr 0.8948 0.8947 0.8899 0.8924

6.2 tiktok comparison log_loss @ 10 20 30 50
bpr 18.3764 18.5995 18.2609 17.5754
fpmc 17.7727 17.9348 17.6401 16.9038
ngcf - - - -
lightgcn 25.1536 25.1566 25.1563 25.1572
bert4rec 13.4550 13.4543 - -
gcsan - - - -
din 1.0317 0.8437 0.8796 0.7747
dien 0.8218 0.8219 0.8218 0.8218
mma4ctr 0.9510 1.2271 1.0760 1.2647

6.2 tiktok by_epoch auc @ 10 20 30 40 50 60 70 80 90 100
bpr 0.3805 0.3805 0.3828 0.3861 0.3897 0.3930 0.3957 0.3992 0.4016 0.4044
fpmc 0.4015 0.4070 0.4133 0.4203 0.4273 0.4341 0.4414 0.4486 0.4558 0.4630
ngcf - - - - - - - - - -
lightgcn 0.3863 0.3862 0.3862 0.3862 0.3862 0.3862 0.3862 0.3863 0.3863 0.3863
bert4rec 0.5844 0.5834 0.6295 0.5877 - - - - - -
gcsan 0.5869 0.4829 0.4550 0.4348 0.4736 - - - - -
din 0.5087 0.5469 0.5480 0.5763 0.5619 - - - - -
dien 0.5788 0.5787 0.5742 0.5748 0.5787 0.5775 0.5370 0.5370 0.5374 0.5377
mma4ctr 0.8895607898335833 0.8902426666895447 0.8910121877392787 0.8900689533865059
mma4ctr 0.888445766027537 0.8873859916991084 0.8881535967962569 0.8897038379029022
mma4ctr 0.8870444828207427 0.8915471290181558

6.2 tiktok cost train_seconds @
bpr 619.19
fpmc 549.91
ngcf -
lightgcn 1929.59
bert4rec 71639.71
gcsan 44006.24
din 643.46
dien 2315.56
mma4ctr 163.8

6.2 tiktok cost test_seconds @
bpr 601
fpmc 399
ngcf -
lightgcn 1908
bert4rec 5060
gcsan 37142
din 574
dien 1464
mma4ctr 23

6.2 tiktok cost parameters @
bpr 195060416
fpmc 584966336
ngcf 195085376
lightgcn 195060416
bert4rec 195056384
gcsan 195048512
din 30761840
dien 30900377
mma4ctr 26025
"""
"""Each table is a heading (section, dataset, kind, metric, @ epochs) and its rows; a row's name is
that of its flagfile, values that do not fit on a line follow under the same name, and - is an empty
cell."""


def _read(text: str) -> Iterator[Table]:
    for block in text.strip().split("\n\n"):
        heading, *lines = block.splitlines()
        about, _, epochs = heading.partition("@")
        section, dataset, kind, metric = about.split()
        rows: dict[str, tuple[float | None, ...]] = {}
        for line in lines:
            name, *values = line.split()
            read = tuple(None if value == "-" else float(value) for value in values)
            rows[name] = rows.get(name, ()) + read
        yield Table(section, dataset, kind, metric, tuple(map(int, epochs.split())), rows)


TABLES = tuple(_read(PUBLISHED))


def table(dataset: str, kind: str, metric: str = "auc") -> Table:
    """Return the only table of a kind, see `Table`."""
    (found,) = (
        one for one in TABLES if (one.dataset, one.kind, one.metric) == (dataset, kind, metric)
    )
    return found


def repeats(dataset: str) -> list[list[float]]:
    """Return the AUCs that the README gives more than once for one configuration.

    With a constant rate that is batches of 8192 at rate 0.001, in three sweeps; with the halving
    rate, MMa4CTR in the two tables of the comparison. Equal digits count as one run.
    """
    constant = [
        ("epochs", "vat_concat"),
        ("learning_rate", "learning_rate_1e-3"),
        ("batch_size", "batch_size_8192"),
    ]
    halving = [("comparison", "mma4ctr"), ("by_epoch", "mma4ctr")]
    groups = [(constant, epoch) for epoch in (10, 30)]
    groups += [(halving, epoch) for epoch in (10, 20, 30, 50)]
    found = [
        {value for kind, row in places if (value := table(dataset, kind).at(row, epoch))}
        for places, epoch in groups
    ]
    return [sorted(values) for values in found if len(values) > 1]
