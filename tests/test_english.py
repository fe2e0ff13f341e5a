"""All that users read follows the glossary of plain English in tests/english.py."""

import pytest

from tests import english

# Beginnings of paths that are not yet rewritten; at the end this is empty.
NOT_YET: tuple[str, ...] = ()

# (path, phrase to avoid): the reason why it stays. The number may only shrink.
SUPPRESSED: dict[tuple[str, str], str] = {
    ("experiments/performance/mma4ctr.md", "is no X"): "name of a rule that datasets store",
    ("experiments/simulated_content/results/results.md", "a fragment"): "files have this name",
}
MOST_SUPPRESSED = 2


@pytest.mark.parametrize("phrase", english.GLOSSARY, ids=lambda phrase: phrase.avoid)
def test_a_phrase_is_found_in_its_wrong_uses_only(phrase):
    kind = phrase.kinds[-1]
    for example in phrase.wrong:
        assert phrase in [found for _, found in english.find(example, kind)], example
    for example in phrase.right:
        assert phrase not in [found for _, found in english.find(example, kind)], example


def test_a_phrase_is_found_over_two_lines_but_not_in_code():
    assert [line for line, _ in english.find("It says\n    so.\n\nIt is no\nnumber.")] == [0, 3]
    assert not list(english.find("Write `--rule beside` so:\n\n```\nmade anew\n```\n"))


def test_texts_are_plain_english():
    found, suppressed = [], set()
    for text in english.texts():
        for line, phrase in english.find(text.text, text.kind):
            if (text.path, phrase.avoid) in SUPPRESSED:
                suppressed.add((text.path, phrase.avoid))
            elif not text.path.startswith(NOT_YET):
                found.append(
                    f"{text.path}:{text.line + line}: {phrase.avoid!r}, rather {phrase.write!r}"
                )
    assert not found, "\n".join(["see the glossary in tests/english.py:", *found])
    assert suppressed == set(SUPPRESSED), "no longer used: take them off the list"
    assert len(SUPPRESSED) <= MOST_SUPPRESSED, "the list of suppressed phrases may only shrink"
