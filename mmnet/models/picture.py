"""Diagram of a model in Mermaid, drawn from the model itself."""

from __future__ import annotations

import keras

from mmnet.layers.bounds import Bounded

MODULES = {
    "Fine-granularity module": ("multi_mode", "sequence_embedding", "all_rates"),
    "Coarse-granularity module": (
        "taxonomy_embedding",
        "all_taxonomy_rates",
        "joined_taxonomies",
        "granularity_attention",
    ),
    "Temporal mining layer": ("tcn", "temporal_attention"),
    "Meta-info module": (
        "presence",
        "modality_dropout",
        "field_embedding",
        "xdeepfm",
        "context_",
        "absent_texts",
        "encoded_",
    ),
}
"""Parts of the paper's Fig. 1 -> names (or beginnings of names) of their layers."""

PLUMBING = (
    Bounded,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.Concatenate,
    keras.layers.Dropout,
)
"""Layers that change the shape at most, when the model predicts: arrows pass through them."""


def mermaid(model: keras.Model) -> str:
    """Draws a functional model as a Mermaid flowchart that reads like the paper's Fig. 1.

    Boxes are layers with their parameter counts, grouped into the paper's modules by name;
    rounded boxes are inputs; inputs that the model does not read are left out.
    """
    arrows = [
        (source.name, layer.name)
        for layer in model.layers
        if not isinstance(layer, PLUMBING)
        for source in _sources(layer)
    ]
    linked = {name for arrow in arrows for name in arrow}
    place = {name: number for number, name in enumerate(model.input)}
    layers = [layer for layer in model.layers if layer.name in linked]
    layers.sort(key=lambda layer: place.get(layer.name, len(place)))  # inputs first, as they come
    lines = ["flowchart BT"]
    lines += [f"  {_box(layer)}" for layer in layers if _module(layer.name) is None]
    for title in MODULES:
        inside = [layer for layer in layers if _module(layer.name) == title]
        if inside:
            lines.append(f'  subgraph {title.split("-")[0].split()[0].lower()}["{title}"]')
            lines += [f"    {_box(layer)}" for layer in inside]
            lines.append("  end")
    lines += [f"  {source} --> {target}" for source, target in dict.fromkeys(arrows)]
    return "\n".join(lines) + "\n"


def _sources(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Layers that this one reads, plumbing skipped, in the order of its arguments."""
    found = []
    for node in layer._inbound_nodes:
        for tensor in node.input_tensors:
            source = tensor._keras_history.operation
            found += _sources(source) if isinstance(source, PLUMBING) else [source]
    return list(dict.fromkeys(found))


def _module(name: str) -> str | None:
    for title, beginnings in MODULES.items():
        if name.startswith(beginnings):
            return title
    return None


def _box(layer: keras.layers.Layer) -> str:
    words = layer.name.replace("_", " ")
    if isinstance(layer, keras.layers.InputLayer):
        return f'{layer.name}(["{words}"])'
    parameters = layer.count_params()
    return (
        f'{layer.name}["{words}<br/>{parameters:,} parameters"]'
        if parameters
        else (f'{layer.name}["{words}"]')
    )
