"""A snippet that the page exported before the rooms were built still runs, word for word; so does one from today."""

from visualizers.export.files import snippet

EXPORTED = '''from models.method import atlas, find, run
from models.subject import from_example, from_image, from_text

method = find('mdm')


def example(name):
    every = [(e, m.accepts) for m in (method, *atlas().values()) for e in m.examples]
    return from_example(*next(pair for pair in every if pair[0].id == name))


subject = example('fox')
result = run(method, subject, {"order": 'confidence'}, checkpoint='text-mdm-1', seed=1)
trace = result.traces['unmask']
print(trace.sentence)
'''


def said(code: str, capsys) -> tuple[str, dict]:
    """What a snippet prints, and the names it leaves."""
    names: dict = {}
    exec(compile(code, "snippet", "exec"), names)
    return capsys.readouterr().out.strip(), names


def test_an_exported_snippet_still_runs(tiny, capsys):
    sentence, names = said(EXPORTED, capsys)
    assert sentence and sentence == names["trace"].sentence and names["trace"].provenance.seed == 1


def test_a_new_snippet_makes_the_same_trace_again(tiny, capsys):
    trace = said(EXPORTED, capsys)[1]["trace"]
    code = snippet(trace)
    assert "from models import " in code and "models." not in code.split("method = find")[0].replace("from models ", "")
    assert said(code, capsys)[0] == trace.sentence
