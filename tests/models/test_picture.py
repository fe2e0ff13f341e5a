from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.models.picture import mermaid
from tests.models.tiny import SPEC


def test_reads_like_the_figure_of_the_paper():
    picture = mermaid(mmnet(SPEC, MMNetOptions(units=4, field_width=2)))
    for module in ("Fine-granularity", "Coarse-granularity", "Temporal mining", "Meta-info"):
        assert picture.count(module) == 1
    arrows = {line.strip() for line in picture.splitlines() if "-->" in line}
    assert {
        "share_rate --> multi_mode",
        "multi_mode --> sequence_embedding",
        "sequence_embedding --> granularity_attention",
        "taxonomy_embedding --> granularity_attention",
        "granularity_attention --> tcn",
        "tcn --> temporal_attention",
        "temporal_attention --> gated_fusion",
        "xdeepfm --> gated_fusion",
        "presence --> gated_fusion",
        "gated_fusion --> absent_modalities",
        "absent_modalities --> mlp",
    } <= arrows


def test_leaves_out_what_the_model_has_not():
    picture = mermaid(mmnet(SPEC, MMNetOptions(coarse_granularity=False, units=4, field_width=2)))
    assert "Coarse" not in picture
    assert "taxonomy_rate" not in picture
